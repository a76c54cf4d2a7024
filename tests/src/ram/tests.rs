//! The machine forgives a driver nothing: what it forgets to flush, to invalidate or to
//! wait for is garbage, and is told.

use super::*;
use presil_device::FaultClient;

fn access(snoop: Snoop) -> DmaAccess {
    DmaAccess {
        client: FaultClient::RingFetch,
        snoop,
        non_secure: true,
    }
}

/// A frame that is mapped so, nothing of it in the caches, all bytes 7.
fn frame(ram: &Ram, caching: Caching) -> BusAddr {
    let at = ram.take(1, u64::MAX).unwrap()[0];
    ram.cpu_write(at, &[7; PAGE]);
    ram.set_caching(at, caching);
    BusAddr(at)
}

fn gpu_reads(ram: &Ram, at: BusAddr, snoop: Snoop) -> u8 {
    let mut byte = [0];
    ram.read(at, &mut byte, access(snoop)).unwrap();
    byte[0]
}

fn cpu_reads(ram: &Ram, at: BusAddr) -> u8 {
    let mut byte = [0];
    ram.cpu_read(at.0, &mut byte);
    byte[0]
}

/// Without what caches do by themselves.
fn quiet() -> Ram {
    let ram = Ram::new();
    ram.lock().recent = [FRAMES - 1; RECENT];
    ram
}

#[test]
fn snooped_accesses_are_coherent_with_the_caches() {
    let ram = Ram::new();
    let at = frame(&ram, Caching::Cached);
    for n in 0..200 {
        ram.shuffle(n);
        let n = n.to_le_bytes()[0];
        ram.cpu_write(at.0 + 1, &[n]);
        ram.write(at, &[n], access(Snoop::Snooped)).unwrap();
        assert_eq!(cpu_reads(&ram, at), n);
        assert_eq!(gpu_reads(&ram, at.add(1), Snoop::Snooped), n);
        assert_eq!(gpu_reads(&ram, at.add(2), Snoop::Snooped), 7);
    }
    assert_eq!(ram.violations(), [""; 0]);
}

#[test]
fn what_is_dirty_the_gpu_sees_unsnooped_once_it_is_flushed() {
    let ram = quiet();
    let at = frame(&ram, Caching::Cached);
    ram.lock()
        .caches
        .store(frame_at(at.0).unwrap(), 0, &[8], &[7; PAGE]);
    assert_eq!(ram.lines(at.0).unwrap().dirty, 1);
    assert_eq!(gpu_reads(&ram, at, Snoop::Unsnooped), 7);
    assert!(ram.violations().iter().any(|v| v.contains("flush first")));
    ram.flush(at.0);
    assert_eq!(gpu_reads(&ram, at, Snoop::Unsnooped), 8);
}

#[test]
fn what_the_gpu_wrote_unsnooped_the_cpu_sees_once_it_has_invalidated() {
    let ram = quiet();
    let at = frame(&ram, Caching::Cached);
    let n = frame_at(at.0).unwrap();
    ram.lock().caches.fetch(n, 1, &[7; PAGE]);
    ram.write(at, &[8], access(Snoop::Unsnooped)).unwrap();
    assert_eq!(ram.lines(at.0).unwrap().stale, 1);
    assert_eq!(cpu_reads(&ram, at), 7);
    let violations = ram.violations();
    assert!(violations.iter().any(|v| v.contains("invalidate first")));
    ram.invalidate(at.0);
    assert_eq!(cpu_reads(&ram, at), 8);
}

#[test]
fn dirty_lines_go_over_what_the_gpu_writes_unsnooped() {
    let ram = quiet();
    let at = frame(&ram, Caching::Cached);
    let n = frame_at(at.0).unwrap();
    ram.lock().caches.store(n, 0, &[9], &[7; PAGE]);
    ram.write(at, &[8], access(Snoop::Unsnooped)).unwrap();
    ram.flush(at.0);
    assert_eq!(gpu_reads(&ram, at, Snoop::Unsnooped), 9);
    let violations = ram.violations();
    assert!(violations.iter().any(|v| v.contains("over what the GPU")));
}

#[test]
fn a_write_combined_store_waits_for_a_barrier_and_its_own_cpu_sees_it() {
    let ram = quiet();
    let at = frame(&ram, Caching::WriteCombined);
    ram.lock().buffer.store(at.0 + 3, &[8, 9], |_, _| {});
    assert_eq!(cpu_reads(&ram, at.add(3)), 8);
    assert_eq!(gpu_reads(&ram, at.add(3), Snoop::Unsnooped), 7);
    ram.barrier();
    assert_eq!(gpu_reads(&ram, at.add(2), Snoop::Unsnooped), 7);
    assert_eq!(gpu_reads(&ram, at.add(3), Snoop::Unsnooped), 8);
    assert_eq!(gpu_reads(&ram, at.add(4), Snoop::Unsnooped), 9);
    assert_eq!(ram.violations(), [""; 0]);
}

#[test]
fn who_had_a_frame_before_has_left_dirty_lines() {
    let ram = quiet();
    let at = BusAddr(ram.take(1, u64::MAX).unwrap()[0]);
    ram.lock()
        .owned
        .insert(frame_at(at.0).unwrap(), Caching::WriteCombined);
    ram.write(at, &[8], access(Snoop::Unsnooped)).unwrap();
    assert_eq!(ram.lines(at.0).unwrap().stale, 1);
    ram.flush(at.0);
    assert_ne!(gpu_reads(&ram, at, Snoop::Unsnooped), 8);
}

#[test]
fn a_frame_goes_back_as_others_map_it() {
    let ram = Ram::new();
    let at = frame(&ram, Caching::WriteCombined);
    ram.free(vec![at.0]);
    assert!(ram.violations()[0].contains("others map it cached"));
}
