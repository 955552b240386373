// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest in a process: the socket driver of the crate virtio-drivers, behind the vhost-user
//! front-end of the crate vhost. Neither is changed; what a VMM and its memory would be is here.
//!
//! rust-frontend SOCKET: connects to port 90 of the host, sends bytes and checks that they come back;
//! then accepts a connection at port 50 and sends back what comes until the host closes it.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_drivers::device::socket::{
    SocketError, VirtIOSocket, VsockAddr, VsockConnectionManager, VsockEvent, VsockEventType,
    VMADDR_CID_HOST,
};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Error, Hal, PhysAddr, Result};
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const PAGE: usize = 4096;
const MEMORY_BYTES: usize = 16 << 20;
const MEMORY_BASE: u64 = 1 << 30;
const QUEUES: usize = 3;
const QUEUE_SIZE_MAX: u32 = 256;
const HOST_PORT: u32 = 90;
const GUEST_PORT: u32 = 50;
const OWN_PORT: u32 = 4000;
const TOTAL: usize = 1_000_000;
const CHUNK: usize = 3000;
const LIMIT: Duration = Duration::from_secs(120);

/// Guest memory: a memfd, given out by pages.
struct Memory {
    fd: RawFd,
    address: usize,
    pages: Mutex<Vec<bool>>,
}

fn memory() -> &'static Memory {
    static MEMORY: OnceLock<Memory> = OnceLock::new();

    MEMORY.get_or_init(|| unsafe {
        let fd = libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0 && libc::ftruncate(fd, MEMORY_BYTES as i64) == 0);
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let null = std::ptr::null_mut();
        let address = libc::mmap(null, MEMORY_BYTES, both, libc::MAP_SHARED, fd, 0);
        assert_ne!(address, libc::MAP_FAILED);
        Memory {
            fd,
            address: address as usize,
            pages: Mutex::new(vec![false; MEMORY_BYTES / PAGE]),
        }
    })
}

impl Memory {
    fn virt(&self, paddr: PhysAddr) -> *mut u8 {
        (self.address + (paddr - MEMORY_BASE) as usize) as *mut u8
    }

    fn alloc(&self, count: usize) -> PhysAddr {
        let mut pages = self.pages.lock().unwrap();
        let first = (0..pages.len() - count)
            .find(|&at| pages[at..at + count].iter().all(|used| !used))
            .expect("no guest memory left");
        pages[first..first + count].fill(true);
        MEMORY_BASE + (first * PAGE) as u64
    }

    fn free(&self, paddr: PhysAddr, count: usize) {
        let first = (paddr - MEMORY_BASE) as usize / PAGE;
        self.pages.lock().unwrap()[first..first + count].fill(false);
    }
}

struct GuestHal;

unsafe impl Hal for GuestHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let paddr = memory().alloc(pages);
        let virt = memory().virt(paddr);
        unsafe { virt.write_bytes(0, pages * PAGE) };
        (paddr, NonNull::new(virt).unwrap())
    }

    unsafe fn dma_dealloc(paddr: PhysAddr, _vaddr: NonNull<u8>, pages: usize) -> i32 {
        memory().free(paddr, pages);
        0
    }

    unsafe fn mmio_phys_to_virt(_paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        unreachable!("there is no PCI")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        let paddr = memory().alloc(buffer.len().div_ceil(PAGE));
        if direction != BufferDirection::DeviceToDriver {
            let from = buffer.as_ptr() as *const u8;
            from.copy_to_nonoverlapping(memory().virt(paddr), buffer.len());
        }
        paddr
    }

    unsafe fn unshare(paddr: PhysAddr, buffer: NonNull<[u8]>, direction: BufferDirection) {
        if direction != BufferDirection::DriverToDevice {
            let to = buffer.as_ptr() as *mut u8;
            memory()
                .virt(paddr)
                .copy_to_nonoverlapping(to, buffer.len());
        }
        memory().free(paddr, buffer.len().div_ceil(PAGE));
    }
}

struct Queue {
    size: u16,
    areas: [PhysAddr; 3],
    kick: EventFd,
    call: EventFd,
}

/// A transport that is a vhost-user front-end.
struct VhostUser {
    frontend: RefCell<Frontend>,
    offered: u64,
    status: DeviceStatus,
    queues: [Option<Queue>; QUEUES],
}

impl VhostUser {
    fn connect(path: &str) -> vhost::Result<Self> {
        let mut frontend = Frontend::connect(path, QUEUES as u64)?;
        frontend.set_owner()?;
        let offered = frontend.get_features()?;
        let wanted = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK;
        let agreed = frontend.get_protocol_features()? & wanted;
        assert_eq!(agreed, wanted);
        frontend.set_protocol_features(agreed)?;
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        assert_eq!(frontend.get_queue_num()?, QUEUES as u64);
        Ok(VhostUser {
            frontend: RefCell::new(frontend),
            offered,
            status: DeviceStatus::empty(),
            queues: [const { None }; QUEUES],
        })
    }

    fn activate(&mut self) -> vhost::Result<()> {
        let mut frontend = self.frontend.borrow_mut();
        let user = memory().address as u64;
        frontend.set_mem_table(&[VhostUserMemoryRegionInfo {
            guest_phys_addr: MEMORY_BASE,
            memory_size: MEMORY_BYTES as u64,
            userspace_addr: user,
            mmap_offset: 0,
            mmap_handle: memory().fd,
        }])?;
        for (index, queue) in self.queues.iter().enumerate() {
            let queue = queue.as_ref().expect("three queues");
            let [desc, avail, used] = queue.areas.map(|paddr| paddr - MEMORY_BASE + user);
            frontend.set_vring_num(index, queue.size)?;
            frontend.set_vring_addr(
                index,
                &VringConfigData {
                    queue_max_size: QUEUE_SIZE_MAX as u16,
                    queue_size: queue.size,
                    flags: 0,
                    desc_table_addr: desc,
                    used_ring_addr: used,
                    avail_ring_addr: avail,
                    log_addr: None,
                },
            )?;
            frontend.set_vring_base(index, 0)?;
            frontend.set_vring_call(index, &queue.call)?;
            frontend.set_vring_kick(index, &queue.kick)?;
            frontend.set_vring_enable(index, true)?;
        }
        Ok(())
    }
}

impl Transport for VhostUser {
    fn device_type(&self) -> DeviceType {
        DeviceType::Socket
    }

    fn read_device_features(&mut self) -> u64 {
        self.offered
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        let features = driver_features | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        println!("features {features:#x} of {:#x}", self.offered);
        self.frontend.borrow_mut().set_features(features).unwrap();
    }

    fn max_queue_size(&mut self, _queue: u16) -> u32 {
        QUEUE_SIZE_MAX
    }

    fn notify(&mut self, queue: u16) {
        if let Some(queue) = &self.queues[queue as usize] {
            queue.kick.write(1).unwrap();
        }
    }

    fn get_status(&self) -> DeviceStatus {
        self.status
    }

    fn set_status(&mut self, status: DeviceStatus) {
        let starts = status.contains(DeviceStatus::DRIVER_OK);
        if starts && !self.status.contains(DeviceStatus::DRIVER_OK) {
            self.activate().unwrap();
        }
        self.status = status;
    }

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.queues[queue as usize] = Some(Queue {
            size: size as u16,
            areas: [descriptors, driver_area, device_area],
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            call: EventFd::new(EFD_NONBLOCK).unwrap(),
        });
    }

    fn queue_unset(&mut self, queue: u16) {
        let mut frontend = self.frontend.borrow_mut();
        frontend.set_vring_enable(queue as usize, false).unwrap();
        frontend.get_vring_base(queue as usize).unwrap();
        self.queues[queue as usize] = None;
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.queues[queue as usize].is_some()
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        let size = size_of::<T>();
        let flags = VhostUserConfigFlags::empty();
        let (_, bytes) = self
            .frontend
            .borrow_mut()
            .get_config(offset as u32, size as u32, flags, &vec![0; size])
            .map_err(|_| Error::IoError)?;
        T::read_from_bytes(&bytes).map_err(|_| Error::IoError)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> Result<()> {
        Err(Error::Unsupported)
    }
}

type Manager = VsockConnectionManager<GuestHal, VhostUser>;

/// The next event; waiting ends.
fn next_event(guest: &mut Manager) -> VsockEvent {
    let start = Instant::now();

    loop {
        if let Some(event) = guest.poll().unwrap() {
            return event;
        }
        assert!(start.elapsed() < LIMIT, "no event");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Take what has come, and say so.
fn take(guest: &mut Manager, peer: VsockAddr, port: u32) -> Vec<u8> {
    let mut bytes = vec![0; 2048];
    let count = guest.recv(peer, port, &mut bytes).unwrap();

    bytes.truncate(count);
    guest.update_credit(peer, port).unwrap();
    bytes
}

/// Whether there was credit for the bytes.
fn send(guest: &mut Manager, peer: VsockAddr, port: u32, bytes: &[u8]) -> bool {
    match guest.send(peer, port, bytes) {
        Ok(()) => true,
        Err(Error::SocketDeviceError(SocketError::InsufficientBufferSpaceInPeer)) => false,
        Err(error) => panic!("{error}"),
    }
}

fn connect_and_compare(guest: &mut Manager) {
    let host = VsockAddr {
        cid: VMADDR_CID_HOST,
        port: HOST_PORT,
    };
    let data: Vec<u8> = (0..TOTAL).map(|n| (n * 7 + n / 251) as u8).collect();
    let (mut sent, mut back) = (0, Vec::new());

    guest.connect(host, OWN_PORT).unwrap();
    assert_eq!(next_event(guest).event_type, VsockEventType::Connected);
    while back.len() < TOTAL {
        // One piece at a time is under way beyond what the small window takes back.
        if sent < TOTAL && sent < back.len() + 100_000 {
            let end = TOTAL.min(sent + CHUNK);
            if send(guest, host, OWN_PORT, &data[sent..end]) {
                sent = end;
            }
        }
        if let Some(event) = guest.poll().unwrap() {
            match event.event_type {
                VsockEventType::Received { .. } => back.extend(take(guest, host, OWN_PORT)),
                VsockEventType::CreditUpdate => (),
                other => panic!("{other:?} after {} bytes", back.len()),
            }
        }
    }
    assert!(back == data);
    guest.shutdown(host, OWN_PORT).unwrap();
    while !matches!(
        next_event(guest).event_type,
        VsockEventType::Disconnected { .. }
    ) {}
    println!("connected: {TOTAL} bytes there and back");
}

fn serve(guest: &mut Manager) {
    let mut count = 0;

    guest.listen(GUEST_PORT);
    println!("listening");
    loop {
        let event = next_event(guest);
        match event.event_type {
            VsockEventType::Received { .. } => {
                let bytes = take(guest, event.source, GUEST_PORT);
                while !send(guest, event.source, GUEST_PORT, &bytes) {
                    assert_eq!(next_event(guest).event_type, VsockEventType::CreditUpdate);
                }
                count += bytes.len();
            }
            VsockEventType::Disconnected { .. } => break,
            _ => (),
        }
    }
    println!("served: {count} bytes");
}

fn main() {
    let path = std::env::args()
        .nth(1)
        .expect("usage: rust-frontend SOCKET");
    let transport = VhostUser::connect(&path).unwrap();
    let socket = VirtIOSocket::new(transport).unwrap();
    let mut guest = Manager::new(socket);

    println!("cid {}", guest.guest_cid());
    connect_and_compare(&mut guest);
    serve(&mut guest);
}
