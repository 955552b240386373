# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A virtual machine: a front-end with a message order, and the guest behind it."""

from driver import Guest
from orders import Qemu10
from vhost_user import F_SEQPACKET, FrontEnd
from vsockpkt import TYPE_SEQPACKET


class Vm:
    """Created running unless start is off. Keywords go to driver.Guest.

    connect: returns what FrontEnd takes; the usual is the daemon's socket.
    """

    def __init__(self, paths, order=Qemu10, start=True, features=None, socket_types=0,
                 connect=None, **guest_options):
        self.paths = paths
        self.connect = connect or (lambda: paths.socket)
        self.order = order()
        self.order.features = self.order.features if features is None else features
        self.order.features |= socket_types
        guest_options.setdefault("num_queues", self.order.num_queues)
        guest_options.setdefault("shared_call", self.order.shared_call)
        self.guest = Guest(paths.cid, **guest_options)
        if socket_types & F_SEQPACKET:
            self.guest.types.add(TYPE_SEQPACKET)
        self.fe = None
        self.bases = None
        if start:
            self.boot()

    def boot(self):
        """Connect, negotiate, activate, fill the rings."""
        self.fe = FrontEnd(self.connect())
        self.order.negotiate(self.fe, self.guest)
        self.order.activate(self.fe, self.guest)
        self.guest.start()
        # an answer proves that everything before was accepted
        self.fe.get_features()

    def stop(self):
        """The VMM stops the virtual machine."""
        self.bases = self.order.stop(self.fe, self.guest)

    def cont(self):
        """and lets it go on."""
        self.order.resume(self.fe, self.guest, self.bases)

    def reboot(self):
        """The guest's driver starts from nothing on the same connection."""
        self.order.stop(self.fe, self.guest)
        self.guest.reboot()
        self.order.activate(self.fe, self.guest)
        self.guest.start()

    def kill(self):
        """The VMM dies."""
        if self.fe:
            self.fe.close()
            self.fe = None

    def replace(self):
        """A new VMM process with a freshly booted guest, in the memory of the old one."""
        if self.fe:
            self.fe.leave()
            self.fe = None
        self.order = type(self.order)()
        self.guest.reboot()
        self.boot()

    def close(self):
        self.kill()
        self.guest.close()
