# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Guests by their drivers: ring features, shapes of buffers and habits of credit, all together.

test_vu_descriptors.py has each shape by itself. Here a connection lives from its request to its
end with what one driver does, and with a sibling that does otherwise. No code of these drivers
runs; the table is what their sources do.
"""

import pytest

import gsocket
from driver import Guest
from hostsock import stream
from vsockpkt import HEADER_SIZE, MAX_PAYLOAD, SHUT_SEND
from waiting import until

PAGE = 4096


class Driver:
    """What a driver does.

    rx, tx: descriptor sizes of an RX buffer and of the start of a TX packet, the rest being one
    more. descriptors: how many a packet of chunk bytes has, as a check of this table.
    """

    def __init__(self, rx, tx, descriptors, chunk=MAX_PAYLOAD, size=128, event_idx=True,
                 indirect=False, total=300_000, **credit):
        self.guest = {"rx_shape": rx, "tx_shape": tx, "queue_size": size, "event_idx": event_idx,
                      "indirect": indirect}
        self.tx = tx
        self.descriptors = descriptors
        self.chunk = chunk
        self.total = total
        self.credit = credit


DRIVERS = {
    "Linux 5.10": Driver((44, PAGE), (44,), 2, drain_update=False),
    "Linux 6.2": Driver((4140,), (44,), 2, drain_update=False),
    "Linux 6.17": Driver((3776,), (44, 32768), 3, count_packets=True),
    "MSG_ZEROCOPY": Driver((3776,), (44, *(PAGE,) * 15), 17),
    "MSG_ZEROCOPY from the middle of a page": Driver((3776,), (44, 100, *(PAGE,) * 15), 18,
                                                     indirect=True),
    "Windows": Driver((44, PAGE), (44, 1000, *(PAGE,) * 15), 18, event_idx=False, indirect=True,
                      drain_update=False),
    "Windows, direct": Driver((44, PAGE), (44, 1000, *(PAGE,) * 15), 18, event_idx=False,
                              drain_update=False),
    "virtio-drivers": Driver((512,), (44,), 2, chunk=1024, size=8, total=40_000, buf_alloc=1024,
                             volunteer=False),
    "virtio-drivers, indirect": Driver((512,), (44,), 2, chunk=1024, size=8, indirect=True,
                                       total=40_000, buf_alloc=1024, volunteer=False),
    "silent about credit": Driver((4140,), (44,), 2, volunteer=False),
}


@pytest.fixture(params=DRIVERS)
def driver(request):
    return DRIVERS[request.param]


def boot(start_vm, daemon, driver, cid=None):
    """A guest with this driver."""
    return start_vm(daemon, cid, **driver.guest).guest


def from_host(daemon, guest, driver, port=50):
    """A connection that the host asks for."""
    listener = gsocket.Listener(guest, port, **driver.credit)
    return daemon.connect(port, guest.cid), listener.accept()


def from_guest(daemon, guest, driver, port=90):
    """One that the guest asks for."""
    door = daemon.listen(port, guest.cid)
    sock = gsocket.connect(guest, 4000, port, **driver.credit)
    host = door.accept()
    door.close()
    return host, sock


OPENED = pytest.mark.parametrize("opened", [from_host, from_guest])


@pytest.mark.parametrize("name", DRIVERS)
def test_table(name):
    """A packet has as many descriptors as the driver uses."""
    driver = DRIVERS[name]
    cut = Guest.cut(HEADER_SIZE + driver.chunk, driver.tx)
    assert len(cut) == driver.descriptors and cut[0] == HEADER_SIZE


@OPENED
def test_both_ways(daemon, start_vm, pattern, driver, opened):
    host, sock = opened(daemon, boot(start_vm, daemon, driver), driver)
    down, up = pattern(driver.total, 1), pattern(driver.total, 2)
    assert stream([(host, down, sock), (sock, up, host)], 20) == [down, up]
    sock.close()
    assert host.recv_eof() == b""


@OPENED
def test_whole_packets_to_the_host(daemon, start_vm, pattern, driver, opened):
    """As large as the driver makes them, then a last one of one byte; the buffers come back."""
    guest = boot(start_vm, daemon, driver)
    host, sock = opened(daemon, guest, driver)
    for size in (driver.chunk, driver.chunk - 1, 1):
        data = pattern(size, size)
        sock.send_all(data, driver.chunk)
        assert host.recv_exact(size) == data
    until(guest.tx_idle, "all TX buffers to come back")


def test_buffers_come_back_while_the_host_does_not_read(daemon, start_vm, pattern, driver):
    """The pages of a MSG_ZEROCOPY sender are its own again once the device has the bytes."""
    guest = boot(start_vm, daemon, driver)
    host, sock = from_guest(daemon, guest, driver)
    data = pattern(max(sock.credit(), 1))
    sock.send_all(data, driver.chunk)
    until(guest.tx_idle, "all TX buffers to come back")
    assert host.recv_exact(len(data)) == data


@OPENED
def test_half_close(daemon, start_vm, pattern, driver, opened):
    """Each side's end comes after its last byte; the other direction goes on."""
    host, sock = opened(daemon, boot(start_vm, daemon, driver), driver)
    up, down = pattern(5000, 1), pattern(5000, 2)
    sock.send_all(up, driver.chunk)
    sock.shutdown(SHUT_SEND)
    assert host.recv_eof() == up
    host.send_all(down)
    host.close()
    assert sock.recv_eof() == down


@pytest.mark.parametrize("threads", ["1", "2"])
def test_with_a_sibling_of_another_kind(start_daemon, start_vm, pattern, driver, threads):
    """Packets are cut anew to the receiver's buffers and window."""
    other = DRIVERS["Linux 6.17"]
    daemon = start_daemon((3, 4), args=("--threads", threads))
    first, second = boot(start_vm, daemon, driver, 3), boot(start_vm, daemon, other, 4)
    listener = gsocket.Listener(second, 50, **other.credit)
    one = gsocket.connect(first, 4000, 50, 4, **driver.credit)
    two = listener.accept()
    up, down = pattern(driver.total, 1), pattern(driver.total, 2)
    assert stream([(one, up, two), (two, down, one)], 20) == [up, down]
    one.close()
    assert two.recv_eof() == b""
