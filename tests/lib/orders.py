# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The message orders of known front-ends, as scripts.

Each class talks to a FrontEnd: negotiate() is what the VMM does when it creates
the device, activate() when the driver sets DRIVER_OK, stop() when the VM stops
or the driver resets the device, resume() when it goes on afterwards. Those that can be saved have
save(), what comes after stop() in a snapshot, and restore(), what another process of the VMM sends
instead of negotiate() and activate().
"""

import os

from vhost_user import (EVENT_IDX, IN_ORDER, INDIRECT_DESC, NOTIFY_ON_EMPTY, P_CONFIG,
                        P_CONFIGURE_MEM_SLOTS, P_DEVICE_STATE, P_LOG_SHMFD, P_MQ, P_REPLY_ACK,
                        P_RESET_DEVICE, PROTOCOL_FEATURES, RING_PACKED, VERSION_1, new_eventfd)

RING_FEATURES = VERSION_1 | EVENT_IDX | INDIRECT_DESC | NOTIFY_ON_EMPTY


class Order:
    """What all have in common. A subclass sets the attributes and the order."""

    name = "?"
    num_queues = 3
    protocol = 0                # protocol features it knows
    features = RING_FEATURES    # virtio features its guest may use
    shared_call = False

    def __init__(self):
        self.offered = 0
        self.agreed_protocol = 0

    def has(self, bit):
        return bool(self.agreed_protocol & bit)

    def get_features(self, fe):
        self.offered = fe.get_features()
        assert self.offered & PROTOCOL_FEATURES

    def agree_protocol(self, fe):
        self.agreed_protocol = fe.get_protocol_features() & self.protocol
        fe.set_protocol_features(self.agreed_protocol)

    def driver_features(self, guest):
        """What the driver of this guest acknowledges, as SET_FEATURES carries it."""
        wanted = self.features & self.offered
        if not guest.rx.event_idx:
            wanted &= ~EVENT_IDX
        if guest.rx.packed:
            wanted |= RING_PACKED & self.offered
        return wanted | (self.offered & PROTOCOL_FEATURES)

    def queues(self, guest):
        return list(enumerate(guest.queues[:self.num_queues]))

    def check_config(self, fe, guest):
        assert fe.get_config(0, 8) == guest.cid.to_bytes(8, "little")

    def negotiate(self, fe, guest):
        raise NotImplementedError

    def activate(self, fe, guest, bases=None):
        raise NotImplementedError

    def stop(self, fe, guest):
        """Returns the bases to go on with."""
        for i, _ in self.queues(guest):
            fe.set_vring_enable(i, 0)
        return [fe.get_vring_base(i) for i, _ in self.queues(guest)]

    def resume(self, fe, guest, bases):
        self.activate(fe, guest, bases)


class Qemu7(Order):
    """QEMU 7.2 vhost-user-vsock-pci: two queues, the event queue is QEMU's."""

    name = "qemu-7.2"
    num_queues = 2
    protocol = P_CONFIG | P_MQ | P_REPLY_ACK | P_CONFIGURE_MEM_SLOTS | P_RESET_DEVICE
    ack_enable = False  # later versions wait for SET_VRING_ENABLE
    ack_call = False    # and for SET_VRING_CALL and SET_VRING_KICK
    reset_at_start = False

    def __init__(self):
        super().__init__()
        self.known_regions = []

    def _set_call(self, fe, i, fd):
        fe.set_vring_call(i, fd, need_reply=self.ack_call and self.has(P_REPLY_ACK))

    def negotiate(self, fe, guest):
        self.get_features(fe)
        self.agree_protocol(fe)
        if self.has(P_MQ):
            assert fe.get_queue_num() >= self.num_queues
        if self.has(P_CONFIGURE_MEM_SLOTS):
            assert fe.get_max_mem_slots() >= 2
        fe.set_owner()
        fe.get_features()
        for i, queue in self.queues(guest):
            # interrupts are masked until the driver asks for them
            masked = new_eventfd()
            self._set_call(fe, i, masked)
            os.close(masked)
            fe.set_vring_err(i, queue.err)
        self.check_config(fe, guest)
        if self.reset_at_start and self.has(P_RESET_DEVICE):
            fe.reset_device()

    def send_memory(self, fe, guest):
        if not self.has(P_CONFIGURE_MEM_SLOTS):
            fe.set_mem_table(guest.mem.regions, need_reply=self.has(P_REPLY_ACK))
            return
        for region in guest.mem.regions:
            if region not in self.known_regions:
                fe.add_mem_reg(region, need_reply=self.has(P_REPLY_ACK))
                self.known_regions.append(region)

    def start_rings(self, fe, guest, bases):
        for i, queue in self.queues(guest):
            fe.set_vring_num(i, queue.size)
            fe.set_vring_base(i, bases[i] if bases else queue.first_base)
            fe.set_vring_addr_of(i, queue)
            fe.set_vring_kick(i, queue.kick, need_reply=self.ack_call and self.has(P_REPLY_ACK))
        for i, _ in self.queues(guest):
            fe.set_vring_enable(i, 1, need_reply=self.ack_enable and self.has(P_REPLY_ACK))

    def activate(self, fe, guest, bases=None):
        for i, queue in self.queues(guest):
            self._set_call(fe, i, queue.call)
        fe.set_features(self.driver_features(guest))
        self.send_memory(fe, guest)
        self.start_rings(fe, guest, bases)
        for i, queue in self.queues(guest):
            self._set_call(fe, i, queue.call)

    def stop(self, fe, guest):
        ack = self.ack_enable and self.has(P_REPLY_ACK)
        for i, _ in self.queues(guest):
            fe.set_vring_enable(i, 0, need_reply=ack)
        bases = [fe.get_vring_base(i) for i, _ in self.queues(guest)]
        for i, queue in self.queues(guest):
            self._set_call(fe, i, queue.call)
        return bases

    def reconnect(self, fe, guest):
        """Driver reset after the daemon was restarted: what QEMU then sends on a
        connection on which nothing was negotiated."""
        self.agreed_protocol |= P_REPLY_ACK
        for i, _ in self.queues(guest):
            fe.set_vring_enable(i, 0, need_reply=self.ack_enable)
        for i, _ in self.queues(guest):
            fe.get_vring_base(i)
        for _ in range(2):
            for i, queue in self.queues(guest):
                self._set_call(fe, i, queue.call)
        fe.set_features(self.driver_features(guest))
        fe.set_mem_table(guest.mem.regions, need_reply=True)
        for i, queue in self.queues(guest):
            fe.set_vring_num(i, queue.size)
            fe.set_vring_base(i, queue.first_base)
            fe.set_vring_addr_of(i, queue)
            fe.set_vring_kick(i, queue.kick, need_reply=self.ack_call)
            fe.set_vring_enable(i, 1, need_reply=self.ack_enable)


class Qemu10(Qemu7):
    """QEMU 10: waits for SET_VRING_ENABLE, resets the device with the driver."""

    name = "qemu-10"
    ack_enable = True
    reset_at_start = True


class Qemu11(Qemu10):
    """QEMU 11: waits for SET_VRING_CALL and SET_VRING_KICK too."""

    name = "qemu-11"
    ack_call = True


class QemuGeneric(Qemu10):
    """QEMU's vhost-user-device-pci: three queues, and all that the back-end offers."""

    name = "qemu-generic"
    num_queues = 3
    features = RING_FEATURES | IN_ORDER


class QemuPlain(Qemu7):
    """QEMU 7.2 with a back-end that has CONFIG only: SET_MEM_TABLE, no replies."""

    name = "qemu-config-only"
    protocol = P_CONFIG


class Crosvm(Order):
    """crosvm `--vhost-user vsock`: never sets need_reply, no INDIRECT_DESC.

    Features are sent only if they changed since they were sent last.
    """

    name = "crosvm"
    protocol = P_CONFIG | P_MQ | P_REPLY_ACK | P_DEVICE_STATE
    features = VERSION_1 | EVENT_IDX

    def __init__(self):
        super().__init__()
        self.sent_features = None

    def connect(self, fe):
        fe.set_owner()
        self.get_features(fe)
        self.agree_protocol(fe)
        if self.has(P_MQ):
            assert fe.get_queue_num() >= self.num_queues

    def negotiate(self, fe, guest):
        self.connect(fe)
        assert fe.get_config(0, 4) + fe.get_config(4, 4) == guest.cid.to_bytes(8, "little")

    def send_features(self, fe, guest):
        wanted = self.driver_features(guest)
        if wanted != self.sent_features:
            fe.set_features(wanted)
            self.sent_features = wanted

    def stop(self, fe, guest):
        bases = []
        for i, _ in self.queues(guest):
            fe.set_vring_enable(i, 0)
            bases.append(fe.get_vring_base(i))
        return bases

    def save(self, fe):
        return fe.save_state()

    def restore(self, fe, guest, state, bases):
        self.connect(fe)
        self.send_features(fe, guest)
        assert fe.load_state(state) == 0
        self.activate(fe, guest, bases)

    def activate(self, fe, guest, bases=None):
        self.send_features(fe, guest)
        fe.set_mem_table(guest.mem.regions)
        for i, queue in self.queues(guest):
            fe.set_vring_num(i, queue.size)
            fe.set_vring_addr_of(i, queue)
            fe.set_vring_base(i, bases[i] if bases else queue.first_base)
            fe.set_vring_call(i, queue.call)
            fe.set_vring_kick(i, queue.kick)
            fe.set_vring_enable(i, 1)


class CloudHypervisor(Order):
    """Cloud Hypervisor `--generic-vhost-user`: need_reply on everything."""

    name = "cloud-hypervisor"
    protocol = (P_CONFIG | P_MQ | P_CONFIGURE_MEM_SLOTS | P_REPLY_ACK | P_LOG_SHMFD |
                P_DEVICE_STATE)
    features = VERSION_1 | EVENT_IDX | INDIRECT_DESC

    def negotiate(self, fe, guest):
        fe.set_owner()
        self.get_features(fe)
        self.agree_protocol(fe)
        if self.has(P_REPLY_ACK):
            fe.need_reply = True
        if self.has(P_MQ):
            assert fe.get_queue_num() >= self.num_queues
        self.check_config(fe, guest)

    def pause(self, fe, guest):
        """What comes first in stop(); a VM that is not saved goes on from there."""
        for i, _ in self.queues(guest):
            fe.set_vring_enable(i, 0)

    def unpause(self, fe, guest):
        for i, _ in self.queues(guest):
            fe.set_vring_enable(i, 1)

    def save(self, fe):
        return fe.save_state(by_socket=True)

    def restore(self, fe, guest, state, bases):
        """The protocol features are those of the snapshot; it does not ask again."""
        fe.set_owner()
        self.get_features(fe)
        self.agreed_protocol = self.protocol
        fe.set_protocol_features(self.agreed_protocol)
        fe.need_reply = True
        assert fe.load_state(state, by_socket=True) == 0
        self.activate(fe, guest, bases)

    def activate(self, fe, guest, bases=None):
        fe.set_features(self.driver_features(guest))
        fe.set_mem_table(guest.mem.regions)
        for i, queue in self.queues(guest):
            fe.set_vring_num(i, queue.size)
        for i, queue in self.queues(guest):
            fe.set_vring_addr_of(i, queue)
            fe.set_vring_base(i, bases[i] if bases else queue.base_in_memory())
            fe.set_vring_call(i, queue.call)
            fe.set_vring_kick(i, queue.kick)
        for i, _ in self.queues(guest):
            fe.set_vring_enable(i, 1)


class Libkrun(Order):
    """libkrun: SET_OWNER late and again, memory before features, one call eventfd."""

    name = "libkrun"
    protocol = P_CONFIG | P_MQ
    shared_call = True

    def negotiate(self, fe, guest):
        self.get_features(fe)
        self.agree_protocol(fe)
        if self.has(P_MQ):
            assert fe.get_queue_num() >= self.num_queues

    def activate(self, fe, guest, bases=None):
        fe.set_owner()
        fe.set_mem_table(guest.mem.regions)
        fe.set_features(self.driver_features(guest))
        for i, queue in self.queues(guest):
            fe.set_vring_num(i, queue.size)
            fe.set_vring_base(i, bases[i] if bases else queue.first_base)
            fe.set_vring_addr_of(i, queue)
            fe.set_vring_kick(i, queue.kick)
            fe.set_vring_call(i, queue.call)
            fe.set_vring_enable(i, 1)

    def stop(self, fe, guest):
        for i, _ in self.queues(guest):
            fe.set_vring_enable(i, 0)
        # libkrun does not ask; it stands for the time until the rings are touched again
        fe.get_features()
        return None


class OpenVmm(Order):
    """OpenVMM `--vhost-user device_id=19`: memory once, RESET_DEVICE at reset."""

    name = "openvmm"
    protocol = P_CONFIG | P_MQ | P_REPLY_ACK | P_RESET_DEVICE

    def __init__(self):
        super().__init__()
        self.memory_sent = False

    def negotiate(self, fe, guest):
        fe.set_owner()
        self.get_features(fe)
        self.agree_protocol(fe)
        fe.need_reply = self.has(P_REPLY_ACK)
        if self.has(P_MQ):
            assert fe.get_queue_num() >= self.num_queues
        config = fe.get_config(0, 256)
        assert config == guest.cid.to_bytes(8, "little") + bytes(248)

    def activate(self, fe, guest, bases=None):
        fe.set_features(self.driver_features(guest))
        if not self.memory_sent:
            fe.set_mem_table(guest.mem.regions)
            self.memory_sent = True
        for i, queue in self.queues(guest):
            fe.set_vring_num(i, queue.size)
            fe.set_vring_addr_of(i, queue)
            fe.set_vring_base(i, bases[i] if bases else queue.first_base)
            fe.set_vring_kick(i, queue.kick)
            fe.set_vring_call(i, queue.call)
            fe.set_vring_enable(i, 1)

    def reset(self, fe, guest):
        self.stop(fe, guest)
        fe.reset_device()


class Alioth(Order):
    """alioth `vu-vsock`: insists on MQ, REPLY_ACK and CONFIGURE_MEM_SLOTS."""

    name = "alioth"
    protocol = P_CONFIG | P_MQ | P_REPLY_ACK | P_CONFIGURE_MEM_SLOTS

    def __init__(self):
        super().__init__()
        self.known_regions = []

    def negotiate(self, fe, guest):
        self.get_features(fe)
        self.agree_protocol(fe)
        assert self.agreed_protocol == self.protocol, f"alioth refuses {self.agreed_protocol:#x}"
        fe.need_reply = True
        fe.set_owner()
        assert fe.get_queue_num() >= self.num_queues
        assert fe.get_config(0, 256)[:8] == guest.cid.to_bytes(8, "little")

    def activate(self, fe, guest, bases=None):
        fe.set_features(self.driver_features(guest))
        for region in guest.mem.regions:
            if region not in self.known_regions:
                fe.add_mem_reg(region)
                self.known_regions.append(region)
        for i, queue in self.queues(guest):
            fe.set_vring_call(i, queue.call)
            fe.set_vring_err(i, queue.err)
            fe.set_vring_num(i, queue.size)
            fe.set_vring_base(i, bases[i] if bases else queue.first_base)
            fe.set_vring_addr_of(i, queue)
            fe.set_vring_kick(i, queue.kick)
        for i, _ in self.queues(guest):
            fe.set_vring_enable(i, 1)


class NoProtocolFeatures(Order):
    """A front-end of the first days: bit 30 is not acknowledged, rings start
    with their kick descriptor and SET_VRING_ENABLE is never sent."""

    name = "no-protocol-features"
    num_queues = 2

    def negotiate(self, fe, guest):
        fe.set_owner()
        self.get_features(fe)

    def driver_features(self, guest):
        return super().driver_features(guest) & ~PROTOCOL_FEATURES

    def activate(self, fe, guest, bases=None):
        fe.set_features(self.driver_features(guest))
        fe.set_mem_table(guest.mem.regions)
        for i, queue in self.queues(guest):
            fe.set_vring_num(i, queue.size)
            fe.set_vring_addr_of(i, queue)
            fe.set_vring_base(i, bases[i] if bases else queue.first_base)
            fe.set_vring_call(i, queue.call)
            fe.set_vring_kick(i, queue.kick)

    def stop(self, fe, guest):
        return [fe.get_vring_base(i) for i, _ in self.queues(guest)]


ALL = (Qemu7, Qemu10, Qemu11, QemuGeneric, QemuPlain, Crosvm, CloudHypervisor, Libkrun, OpenVmm,
       Alioth, NoProtocolFeatures)
