//! Figures (section 21).

use super::mm::{SIZES, anywhere, create, ctx, info, manager, manager_with, with, word};
use crate::Error;
use crate::bo::Kind;
use crate::bo::pool::{Lists, SmallLock};
use crate::evict::{Budget, Info, Options, Promotion};
use crate::placement::{Flags, Place, SegmentId, Window};
use crate::platform::Caching;
use crate::sync::Caller;

const VISIBLE: SegmentId = SegmentId::LocalVisible;
const PAGE: u64 = 4096;

/// A page for each character, and everything once.
#[test]
fn a_picture_shows_whose_each_page_is_and_how_many_are_in_use() {
    let mm = manager([64; 4]);
    let of = |kind, pages| {
        let info = Info {
            kind,
            ..info(pages)
        };
        create(&mm, &info, &[anywhere(VISIBLE)]).unwrap()
    };
    let kernel = of(Kind::Kernel, 2);
    let pinned = of(Kind::Device, 4);
    for bo in [kernel, pinned] {
        with(&mm, bo, |set| mm.pin(set, bo)).unwrap();
    }
    let gone = of(Kind::Device, 8);
    mm.release(gone).unwrap();
    of(Kind::Device, 16);
    let mut text = String::new();
    mm.write_picture(&mut text).unwrap();
    let mut lines = text.lines();
    let visible = lines.next().unwrap();
    let (bar, used) = visible.split_once(']').unwrap();
    assert_eq!(used, " 30 of 64 pages");
    let bar = bar.strip_prefix("local-visible   [").unwrap();
    let count = |letter| bar.chars().filter(|it| *it == letter).count();
    assert_eq!(['K', 'P', 'z', '.'].map(count), [2, 4, 8, 34]);
    let others: Vec<_> = bar.chars().filter(|it| !"KPz.".contains(*it)).collect();
    assert_eq!(
        (others.len(), others.iter().all(|it| *it == others[0])),
        (16, true)
    );
    for line in lines {
        let empty = format!("[{}] 0 of 64 pages", ".".repeat(64));
        assert!(line.ends_with(&empty), "{line}");
    }
    assert_eq!(text.lines().count(), 4);
}

#[test]
fn every_byte_of_a_memory_type_is_a_clients_the_drivers_or_free() {
    let mm = manager(SIZES);
    let owner = mm.open_account().unwrap();
    mm.set_budget(owner, VISIBLE, Budget::OPEN).unwrap();
    let theirs = Info {
        owner: Some(owner),
        ..info(6)
    };
    let theirs = create(&mm, &theirs, &[anywhere(VISIBLE)]).unwrap();
    let ours = create(&mm, &info(5), &[anywhere(VISIBLE)]).unwrap();
    with(&mm, ours, |set| mm.pin(set, ours)).unwrap();
    mm.release(theirs).unwrap();
    let it = mm.report().types[VISIBLE as usize];
    assert_eq!((it.capacity, it.free), (32 * PAGE, 21 * PAGE));
    assert_eq!((it.clients, it.kernel), (6 * PAGE, 5 * PAGE));
    assert_eq!((it.pinned, it.dying), (5 * PAGE, 6 * PAGE));
    assert_eq!(
        it.longest_free_run,
        20 * PAGE,
        "a page lies between the two"
    );
    assert_eq!(it.evictable.iter().sum::<usize>(), 1, "the dying one");
    mm.check();
}

#[test]
fn ram_is_a_clients_the_drivers_or_waits_in_the_pool() {
    let mm = manager(SIZES);
    let owner = mm.open_account().unwrap();
    let theirs = Info {
        owner: Some(owner),
        ..info(6)
    };
    let pcie = [anywhere(SegmentId::PcieUnsnoop)];
    let bos = [
        create(&mm, &theirs, &pcie).unwrap(),
        create(&mm, &info(5), &pcie).unwrap(),
        create(&mm, &info(4), &pcie).unwrap(),
    ];
    for bo in bos {
        with(&mm, bo, |set| mm.make_resident(set, bo, &mut ctx())).unwrap();
    }
    with(&mm, bos[2], |set| mm.swap_out(set, bos[2], &mut ctx())).unwrap();
    let ram = mm.report().ram;
    assert_eq!((ram.clients, ram.kernel, ram.swapped), (6, 5, 4));
    let out = mm.world().ram.system.pages_out() as u64;
    assert_eq!(ram.clients + ram.kernel + ram.pooled, out);
    assert_eq!(mm.report().unevictable, 1);
}

#[test]
fn pages_that_come_back_soon_after_they_had_to_leave_are_a_thrash() {
    for (thrash_ns, thrashed) in [(1_000_000, 16), (0, 0)] {
        let options = Options {
            thrash_ns,
            ..Options::default()
        };
        let mm = manager_with(SIZES, options);
        let bo = create(&mm, &info(16), &[anywhere(VISIBLE)]).unwrap();
        let moved = |to| {
            with(&mm, bo, |set| {
                mm.validate(set, bo, &[anywhere(to)], &mut ctx())
            })
            .unwrap();
        };
        // By its own will.
        moved(SegmentId::LocalInvisible);
        moved(VISIBLE);
        assert_eq!(mm.report().counters.thrashed_pages, 0);
        create(&mm, &info(32), &[anywhere(VISIBLE)]).unwrap();
        moved(VISIBLE);
        assert_eq!(mm.report().counters.thrashed_pages, thrashed);
    }
}

#[test]
fn moves_faults_and_refusals_are_counted_by_kind() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    let moved = |to| {
        with(&mm, bo, |set| {
            mm.validate(set, bo, &[anywhere(to)], &mut ctx())
        })
        .unwrap();
    };
    moved(SegmentId::System);
    moved(SegmentId::PcieUnsnoop);
    let counters = mm.report().counters;
    // Cleared, copied to a stop, from there and back without moving a page.
    assert_eq!((counters.clears, counters.copies), (1, 1));
    assert_eq!((counters.null_moves, counters.stops), (2, 1));
    word(&mm, bo, 0).unwrap();
    let counters = mm.report().counters;
    assert_eq!((counters.faults, counters.mapped_pages), (1, 1));
    let visible = mm.report().types[VISIBLE as usize].traffic;
    assert_eq!((visible.bytes_in, visible.bytes_out), (8 * PAGE, 8 * PAGE));
    assert_eq!((visible.evictions, visible.refused_full), (0, 0));
    let holes = [(); 8].map(|()| create(&mm, &info(4), &[anywhere(VISIBLE)]).unwrap());
    mm.world().work(usize::MAX);
    for bo in [holes[1], holes[4]] {
        mm.release(bo).unwrap();
    }
    create(
        &mm,
        &info(8),
        &[Place::anywhere(VISIBLE, Flags::CONTIGUOUS)],
    )
    .unwrap();
    create(&mm, &info(16), &[anywhere(VISIBLE)]).unwrap();
    let visible = mm.report().types[VISIBLE as usize].traffic;
    assert!(visible.refused_fragmented > 0 && visible.refused_full > 0);
    assert!(visible.evictions > 0);
}

#[test]
fn a_client_is_told_what_of_it_had_to_leave_and_what_came_back() {
    let options = Options {
        promotion: Some(Promotion {
            spare_percent: 0,
            rest_ns: 0,
            ..Promotion::default()
        }),
        ..Options::default()
    };
    let mm = manager_with(SIZES, options);
    let owner = mm.open_account().unwrap();
    let theirs = Info {
        owner: Some(owner),
        ..info(6)
    };
    create(&mm, &theirs, &[anywhere(VISIBLE)]).unwrap();
    let all = create(&mm, &info(32), &[anywhere(VISIBLE)]).unwrap();
    mm.world().work(usize::MAX);
    mm.release(all).unwrap();
    mm.promote(&mut Caller::enter(&*mm.world().sync), &mut ctx())
        .unwrap();
    let balance = mm.balance(owner, VISIBLE).unwrap();
    assert_eq!((balance.evicted, balance.promoted), (6 * PAGE, 6 * PAGE));
    assert_eq!(balance.booked, 6 * PAGE);
}

#[test]
fn what_found_no_room_is_told_with_each_memory_type_that_it_named() {
    let mm = manager(SIZES);
    let held = create(&mm, &info(20), &[anywhere(VISIBLE)]).unwrap();
    with(&mm, held, |set| mm.pin(set, held)).unwrap();
    let wanted = Info {
        align: 4,
        ..info(16)
    };
    let places = [
        Place {
            window: Window::new(4, 24),
            ..Place::anywhere(VISIBLE, Flags::CONTIGUOUS)
        },
        Place::anywhere(VISIBLE, Flags::DESIRED),
    ];
    assert_eq!(create(&mm, &wanted, &places), Err(Error::NoMemory));
    let shortage = mm.shortage(&wanted, &places);
    let told = shortage.to_string();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], "16 pages at multiples of 4, wanted at");
    assert_eq!(lines[1], "  local-visible, pages 4 to 24, in one piece");
    assert_eq!(lines[2], "  local-visible, if nobody has to leave");
    assert_eq!(lines.len(), 4, "each memory type once: {told}");
    assert!(lines[3].starts_with("local-visible: 131072 bytes, clients 0, kernel 81920,"));
    assert!(lines[3].contains("free 49152 (in use 0, longest run 49152), pinned 81920,"));
    let refused = mm.report().types[VISIBLE as usize].traffic.refused_full;
    assert!(refused > 0 && lines[3].contains(&format!("refused: full {refused},")));
    let many = mm.shortage(&wanted, &[anywhere(SegmentId::System); 10]);
    assert!(many.to_string().contains("\n  and at 2 more\nsystem: "));
    assert_eq!(many.types().count(), 1);
}

#[test]
fn all_figures_can_be_printed_and_the_pool_says_what_waits_by_kind() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(5), &[anywhere(SegmentId::PcieUnsnoop)]).unwrap();
    with(&mm, bo, |set| mm.make_resident(set, bo, &mut ctx())).unwrap();
    mm.release(bo).unwrap();
    let waiting = |pool: &mut Lists<_>| {
        let kinds = pool
            .iter()
            .map(|(key, blocks)| (key.caching, key.order, blocks));
        kinds.collect::<Vec<_>>()
    };
    let kinds = mm.world().ram.pool.with(waiting);
    assert!(kinds.iter().all(|kind| kind.0 == Caching::WriteCombined));
    let pages: usize = kinds.iter().map(|(_, order, blocks)| blocks << order).sum();
    assert_eq!(pages, 5, "{kinds:?}");
    mm.limit_ram(40);
    let report = mm.report();
    assert_eq!((report.ram.pooled, report.ram.pool_limit), (5, 16));
    let told = report.to_string();
    for line in [
        "pcie-unsnoop: 196608 bytes, clients 0, kernel 0, free 196608 (in use 0, ",
        "pages of RAM: clients 0, kernel 0 of 40, pool 5 of 16, swapped out 0\n",
        "buffers 0, 0 stay; moves: null 1, clears 0, copies 0, stops 0; faults 0 of 0 pages",
    ] {
        assert!(told.contains(line), "{line}\nin\n{told}");
    }
}
