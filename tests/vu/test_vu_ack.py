# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""ack=off: CONNECT gets no answer. Tools that go by it: test_vu_vsockctl.py."""

import pytest

import gsocket
from gseqpacket import SeqListener
from vhost_user import F_SEQPACKET


@pytest.fixture
def silent(start_daemon, start_vm):
    """A daemon whose VM has ack=off, with a guest."""
    daemon = start_daemon(options={"ack": "off"})
    return daemon, start_vm(daemon, socket_types=F_SEQPACKET).guest


def test_no_answer_where_none_is_wanted(silent):
    daemon, guest = silent
    listener = gsocket.Listener(guest, 1234)
    client = daemon.request(1234)
    client.send_all(b"hello")
    sock = listener.accept()
    assert sock.recv_exact(5) == b"hello"
    sock.send_all(b"OK? no\n")
    assert client.recv_exact(7) == b"OK? no\n"
    sock.close()
    assert client.recv_eof() == b""
    assert daemon.request(99).recv_eof() == b"", "refused: an end without data"


def test_no_answer_record_where_none_is_wanted(silent):
    daemon, guest = silent
    listener = SeqListener(guest, 90)
    client = daemon.request_seqpacket(90)
    sock = listener.accept()
    sock.send_message(b"first")
    assert client.recv_record() == b"first"
