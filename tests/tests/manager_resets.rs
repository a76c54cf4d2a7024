//! The memory manager on the model when jobs hang, interrupts are lost, and registers or
//! local memory go unawares.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use e3k_regs::Reg;
use e3k_regs::fields::RingWord;
use presil_device::{Chip, Config, Gpu, OnFault};
use presil_tests::manager::{Fence, Managed};
use presil_tests::{Frozen, Machine, Process, assert_all};
use vidmm::placement::{Flags, Place};
use vidmm::{Adapter, Blit, Cause, Error, InitReport, LocalMemory, Options, SegmentId};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
const PAGES: u64 = 16;

fn managed(on_fault: OnFault) -> Managed {
    let mut config = Config::new(Chip::Arise10c0, 256 * MIB, 32 * MIB, true).unwrap();
    config.vram_seed = Some(3);
    config.mmu.on_fault = on_fault;
    let options = Options {
        snoop_bytes: 8 * MIB,
        unsnoop_bytes: 8 * MIB,
        ..Options::default()
    };
    Managed::new(&config, options).unwrap()
}

/// A job that goes where nothing is mapped.
fn stray(gpu: &Managed, process: &Process) -> Fence {
    let (at, bytes, pattern) = (process.at.add(64 * MIB), PAGE, 9);
    let job = gpu.job(process.space, &[Blit::Fill { at, bytes, pattern }]);
    job.unwrap()
}

/// With every interrupt lost, and whatever the GPU does at a fault: jobs, moves and
/// waits end, and who goes astray fails alone.
#[test]
fn with_every_interrupt_lost_everything_still_ends() {
    for on_fault in [OnFault::Report, OnFault::Halt, OnFault::Retry] {
        let gpu = managed(on_fault);
        gpu.machine.set_mute(true);
        let [good, bad, other] = [(); 3].map(|()| Process::local(&gpu, PAGES));
        let before = good.fill(&gpu, PAGES, 1);
        let astray = stray(&gpu, &bad);
        let behind = other.fill(&gpu, PAGES, 2);
        assert_eq!(gpu.wait(&behind), Ok(()), "{on_fault:?}");
        assert_eq!(gpu.wait(&before), Ok(()), "{on_fault:?}");
        let told = gpu.wait(&astray);
        // The GPU is asked before anybody takes it for hung, but what it repeats takes longer.
        let (hangs, error) = match on_fault {
            OnFault::Retry => (1, Error::TimedOut),
            _ => (0, Error::Io),
        };
        assert_eq!(told, Err(error), "{on_fault:?}");
        let number = gpu.mm.world().last_hang().map_or(0, |hang| hang.number);
        assert_eq!(number, hangs, "{on_fault:?}");
        for home in [SegmentId::System, SegmentId::LocalInvisible] {
            gpu.place(good.bo, home).unwrap();
        }
        let moved = [good.fill(&gpu, PAGES, 4), bad.fill(&gpu, PAGES, 5)];
        for fence in &moved {
            assert_eq!(gpu.wait(fence), Ok(()), "{on_fault:?}");
        }
        for (process, pattern) in [(&good, 4), (&bad, 5), (&other, 2)] {
            assert_all(&gpu, process.bo, pattern);
        }
    }
}

/// The GPU repeats a fault for ever and nobody is told: the deadline ends it. Who it was is
/// written down and told, with what it had in line behind; others' jobs are done.
#[test]
fn a_job_that_hangs_ends_its_process_s_jobs_and_only_these() {
    let gpu = managed(OnFault::Retry);
    let [good, bad, other] = [(); 3].map(|()| Process::local(&gpu, PAGES));
    gpu.run();
    gpu.machine.set_deaf(true);
    let before = good.fill(&gpu, PAGES, 1);
    let hangs = stray(&gpu, &bad);
    let same = bad.fill(&gpu, PAGES, 2);
    let others = other.fill(&gpu, PAGES, 3);
    let late = bad.fill(&gpu, PAGES, 2);
    let last = good.fill(&gpu, PAGES, 4);
    assert_eq!(gpu.wait(&last), Ok(()));
    let ends = [&before, &hangs, &same, &others, &late].map(|fence| gpu.wait(fence));
    let (late, canceled) = (Err(Error::TimedOut), Err(Error::Canceled));
    assert_eq!(ends, [Ok(()), late, canceled, Ok(()), canceled]);
    for (process, pattern) in [(&good, 4), (&bad, 0), (&other, 3)] {
        assert_all(&gpu, process.bo, pattern);
    }
    let hang = gpu.mm.world().last_hang().unwrap();
    assert_eq!((hang.number, hang.space), (1, Some(bad.space)));
    assert_eq!((hang.put, hang.blits, hang.behind), (1, 1, 4));
    let (head, tail) = hang.pointers;
    assert!(head < tail && hang.busy != 0, "{hang}");
    let said = hang.to_string();
    let (id, job) = (hang.process_id, hang.job);
    let begins = format!("job {job} of process id {id} did not end in 10000 ms: ");
    assert!(said.starts_with(&begins), "{said}");
    let line = format!("Error: GPU: {said}");
    assert!(gpu.machine.log_lines().contains(&line), "{said}");
    // It may go on, and so does everybody.
    let again = bad.fill(&gpu, PAGES, 6);
    assert_eq!(gpu.wait(&again), Ok(()));
    assert_all(&gpu, bad.bo, 6);
}

/// The GPU repeats a fault for ever, and says so: nobody waits for a deadline, and whose job it
/// was is written down as well.
#[test]
fn a_job_whose_fault_is_repeated_is_written_down_as_a_hang() {
    let gpu = managed(OnFault::Retry);
    let [good, bad] = [(); 2].map(|()| Process::local(&gpu, PAGES));
    gpu.run();
    bad.fill(&gpu, PAGES, 1);
    let stuck = stray(&gpu, &bad);
    let behind = good.fill(&gpu, PAGES, 2);
    assert_eq!(gpu.wait(&behind), Ok(()));
    assert_eq!(gpu.wait(&stuck), Err(Error::Io));
    let hang = gpu.mm.world().last_hang().unwrap();
    assert_eq!((hang.number, hang.cause), (1, Cause::Stuck));
    // Not the one before.
    assert_eq!((hang.space, hang.behind), (Some(bad.space), 1));
    let begins = format!(
        "job {} of process id {} does not go on: 1 of its 1 blits",
        hang.job, hang.process_id
    );
    assert!(hang.to_string().starts_with(&begins), "{hang}");
    let line = format!("Error: GPU: {hang}");
    assert!(gpu.machine.log_lines().contains(&line), "{hang}");
    assert_all(&gpu, bad.bo, 1);
}

/// Nobody is guilty of a move that does not end: it is begun once more.
#[test]
fn a_move_that_hangs_is_begun_once_more_and_then_the_gpu_is_lost() {
    let gpu = managed(OnFault::Retry);
    let [moved, lost] = [(); 2].map(|()| Process::local(&gpu, PAGES));
    moved.fill(&gpu, PAGES, 1);
    lost.fill(&gpu, PAGES, 2);
    gpu.run();
    gpu.machine.freeze(Frozen::UntilReset);
    gpu.place(moved.bo, SegmentId::PcieUnsnoop).unwrap();
    let next = lost.fill(&gpu, PAGES, 3);
    assert_eq!(gpu.wait(&next), Ok(()));
    assert_all(&gpu, moved.bo, 1);
    let hang = gpu.mm.world().last_hang().unwrap();
    assert_eq!((hang.number, hang.space, hang.process_id), (1, None, 0));
    gpu.machine.freeze(Frozen::ForGood);
    gpu.place(lost.bo, SegmentId::PcieUnsnoop).unwrap();
    let next = moved.try_fill(&gpu, PAGES, 4);
    assert_eq!(next.map(|fence| gpu.wait(&fence)), Ok(Err(Error::Lost)));
    assert_eq!(gpu.mm.world().last_hang().unwrap().number, 3);
    assert_eq!(moved.try_fill(&gpu, PAGES, 5).err(), Some(Error::Lost));
}

/// A reset of the function takes the registers and what is on the ring.
#[test]
fn after_a_reset_of_the_function_the_jobs_on_the_ring_are_canceled_and_all_else_goes_on() {
    let gpu = managed(OnFault::default());
    let mm = &gpu.mm;
    let [first, second] = [(); 2].map(|()| Process::local(&gpu, PAGES));
    let far = Process::start(&gpu, PAGES, SegmentId::PcieUnsnoop);
    for (n, process) in (0..).zip([&first, &second, &far]) {
        process.fill(&gpu, PAGES, 0x10 + n);
    }
    gpu.run();
    let on_ring = [first.fill(&gpu, PAGES, 1), first.fill(&gpu, PAGES, 2)];
    let in_line = second.fill(&gpu, PAGES, 3);
    gpu.machine.gpu(Gpu::reset);
    mm.world().resume(mm, LocalMemory::Kept).unwrap();
    assert_eq!(gpu.wait(&in_line), Ok(()));
    for fence in &on_ring {
        assert_eq!(gpu.wait(fence), Err(Error::Canceled));
    }
    assert_all(&gpu, second.bo, 3);
    assert_all(&gpu, first.bo, 0x10);
    assert_all(&gpu, far.bo, 0x12);
    // Moves are not lost.
    gpu.place(first.bo, SegmentId::PcieUnsnoop).unwrap();
    gpu.place(far.bo, SegmentId::LocalVisible).unwrap();
    assert!(!mm.world().is_idle());
    gpu.machine.gpu(Gpu::reset);
    mm.world().resume(mm, LocalMemory::Kept).unwrap();
    assert_all(&gpu, first.bo, 0x10);
    assert_all(&gpu, far.bo, 0x12);
    for (n, process) in (0..).zip([&first, &second, &far]) {
        let fence = process.fill(&gpu, PAGES, 0x20 + n);
        assert_eq!(gpu.wait(&fence), Ok(()));
        assert_all(&gpu, process.bo, 0x20 + n);
    }
}

/// Power that is lost unawares takes local memory, too: whoever had something there is
/// told, for good, and sees nothing of what lies there now.
#[test]
fn what_was_in_local_memory_is_lost_with_the_power_and_everything_else_goes_on_r_7_8() {
    let gpu = managed(OnFault::default());
    let mm = &gpu.mm;
    let [here, leaving] = [(); 2].map(|()| Process::local(&gpu, PAGES));
    let far = Process::start(&gpu, PAGES, SegmentId::PcieUnsnoop);
    for (n, process) in (0..).zip([&here, &leaving, &far]) {
        process.fill(&gpu, PAGES, 0x10 + n);
        gpu.run();
    }
    gpu.place(far.bo, SegmentId::PcieUnsnoop).unwrap();
    gpu.run();
    gpu.place(leaving.bo, SegmentId::PcieUnsnoop).unwrap();
    let job = here.fill(&gpu, PAGES, 1);
    gpu.lose_power();
    mm.world().resume(mm, LocalMemory::Lost).unwrap();
    assert_eq!(gpu.wait(&job), Err(Error::Canceled));
    for process in [&here, &leaving] {
        assert_eq!(gpu.words(process.bo).err(), Some(Error::Lost));
        assert_eq!(process.try_fill(&gpu, PAGES, 2).err(), Some(Error::Lost));
        assert_eq!(
            gpu.place(process.bo, SegmentId::LocalInvisible),
            Err(Error::Lost)
        );
    }
    assert_all(&gpu, far.bo, 0x12);
    assert_eq!(gpu.wait(&far.fill(&gpu, PAGES, 3)), Ok(()));
    assert_all(&gpu, far.bo, 3);
    // A process goes on with another buffer, which is fresh.
    let place = Place::anywhere(SegmentId::LocalVisible, Flags::NONE);
    let fresh = gpu.create(PAGES, &[place]).unwrap();
    assert_all(&gpu, fresh, 0);
    let (space, at) = (here.space, here.at);
    let bytes = PAGES * PAGE;
    mm.world()
        .map(mm, space, at, bytes, (fresh, 0), &Managed::ctx())
        .unwrap();
    assert_eq!(gpu.wait(&here.fill(&gpu, PAGES, 4)), Ok(()));
    assert_all(&gpu, fresh, 4);
    for bo in [here.bo, leaving.bo] {
        mm.release(bo).unwrap();
    }
}

#[test]
fn wherever_waking_fails_the_gpu_is_lost_and_the_next_reset_brings_it_back() {
    let gpu = managed(OnFault::default());
    let mm = &gpu.mm;
    let process = Process::local(&gpu, PAGES);
    // With local memory lost, waking asks more often, and takes longer.
    for (local, step) in [(LocalMemory::Kept, 1), (LocalMemory::Lost, 3)] {
        for call in (1..).step_by(step) {
            process.fill(&gpu, PAGES, 5);
            gpu.run();
            mm.world().suspend(mm, &mut Managed::ctx()).unwrap();
            let goes = || match local {
                LocalMemory::Kept => gpu.machine.gpu(Gpu::reset),
                LocalMemory::Lost => gpu.lose_power(),
            };
            goes();
            gpu.machine.fail_call(Some(call));
            let woke = mm.world().resume(mm, local);
            let failed = gpu.machine.has_failed();
            gpu.machine.fail_call(None);
            if !failed {
                assert_eq!(woke, Ok(()));
                assert!(call > 3, "{call}");
                break;
            }
            assert!(woke.is_err(), "call {call}");
            assert_eq!(process.try_fill(&gpu, PAGES, 6).err(), Some(Error::Lost));
            goes();
            assert_eq!(mm.world().resume(mm, local), Ok(()), "call {call}");
            assert_all(&gpu, process.bo, 5);
            assert_eq!(
                gpu.wait(&process.fill(&gpu, PAGES, 7)),
                Ok(()),
                "call {call}"
            );
            assert_all(&gpu, process.bo, 7);
        }
    }
}

/// Whether, behind the last write of the mode, everything was invalidated before a word of
/// the ring was written for the last time.
fn forget_all_before(written: &[(u32, u32)], word: RingWord) -> bool {
    let last = |register: u32| written.iter().rposition(|it| it.0 == register);
    let mode = last(Reg::MmuMode.offset()).unwrap();
    let ring = last(word.offset(0)).unwrap();
    assert!(mode < ring, "it comes behind");
    let all = |pair: &[(u32, u32)]| {
        pair[0] == (Reg::PtInvMask.offset(), 0) && pair[1].0 == Reg::PtInvTrig.offset()
    };
    written[mode..ring].windows(2).any(all)
}

/// Hardware reference 5: what the TLBs held before, of whoever was there, is not known on
/// silicon. The model's are empty after a reset, so that the order of writes is looked at.
#[test]
fn the_tlbs_forget_everything_when_translation_has_started() {
    let config = Config::new(Chip::Arise10c0, 256 * MIB, 32 * MIB, true).unwrap();
    let machine = Machine::new(&config).unwrap();
    machine.write_down();
    Adapter::init(
        machine.clone(),
        Options::default(),
        &mut InitReport::default(),
    )
    .unwrap();
    assert!(forget_all_before(&machine.written(), RingWord::Address));
}

/// The same when the registers came back: before the first work.
#[test]
fn the_tlbs_forget_everything_when_the_registers_came_back() {
    let gpu = managed(OnFault::default());
    for local in [LocalMemory::Kept, LocalMemory::Lost] {
        gpu.run();
        gpu.machine.gpu(Gpu::reset);
        gpu.machine.write_down();
        gpu.mm.world().resume(&gpu.mm, local).unwrap();
        // The manager's own work: nobody gets a process id for it.
        let place = Place::anywhere(SegmentId::LocalVisible, Flags::NONE);
        assert_all(&gpu, gpu.create(PAGES, &[place]).unwrap(), 0);
        assert!(forget_all_before(&gpu.machine.written(), RingWord::Tail));
    }
}
