//! Clients' queues on the model: turns, pieces and shared buffers, by what memory holds.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use presil_device::{Chip, Config};
use presil_tests::Guest;
use vidmm::{BoId, Client, CreateFlags, CreateRequest, Error};

const MIB: u64 = 1 << 20;
/// More than two pieces.
const LARGE: u64 = 36 * MIB;

fn guest() -> Guest {
    let config = Config::new(Chip::Arise10c0, 256 * MIB, 128 * MIB, true).unwrap();
    Guest::new(&config).unwrap()
}

fn create(guest: &mut Guest, client: &Client) -> BoId {
    let request = CreateRequest {
        bytes: LARGE,
        flags: CreateFlags::GPU_MOSTLY.0,
        windows: &[],
    };
    guest.adapter.create_for(client, &request).unwrap()
}

/// Until a client's job is over, as the kernel module waits.
fn wait(guest: &mut Guest, client: &Client, fence: u64) {
    while let Some(ring) = guest.adapter.ask(client, fence).unwrap() {
        guest.wait(ring).unwrap();
    }
}

/// Until everything that a client has queued is over.
fn cleared(guest: &mut Guest, client: &Client) {
    let newest = guest.adapter.jobs(client).0;
    wait(guest, client, newest);
}

/// The words at the beginning, at the end and around each piece's border.
fn words(guest: &mut Guest, bo: BoId) -> Vec<u32> {
    let at = [0, 16 * MIB - 4, 16 * MIB, 32 * MIB - 4, 32 * MIB, LARGE - 4];
    at.map(|at| u32::from_le_bytes(guest.read(bo, at, 4).unwrap().try_into().unwrap()))
        .to_vec()
}

#[test]
fn clients_that_share_a_buffer_find_it_as_if_there_were_one_queue() {
    let mut guest = guest();
    let [a, b] = [(); 2].map(|()| guest.adapter.open_client().unwrap());
    let shared = create(&mut guest, &a);
    let copied = create(&mut guest, &b);
    cleared(&mut guest, &a);
    cleared(&mut guest, &b);
    // Nothing is on the ring: what is queued now has all turns to take.
    guest.adapter.fill_for(&a, shared, 0, LARGE, 0xA1).unwrap();
    let copy = guest.adapter.copy_for(&b, copied, 0, shared, 0, LARGE);
    let after = guest.adapter.fill_for(&a, shared, 0, 4, 0xA2).unwrap();
    wait(&mut guest, &a, after);
    wait(&mut guest, &b, copy.unwrap());
    assert_eq!(
        words(&mut guest, copied),
        [0xA1; 6],
        "the copy is of the first fill"
    );
    let found = words(&mut guest, shared);
    assert_eq!(found, [0xA2, 0xA1, 0xA1, 0xA1, 0xA1, 0xA1]);
    let faults = guest.machine.gpu(|gpu| gpu.counters().faults);
    assert_eq!(faults, 0);
}

#[test]
fn a_shared_buffer_is_cleared_though_its_client_went_before_it_was() {
    let mut guest = guest();
    let [a, b, c] = [(); 3].map(|()| guest.adapter.open_client().unwrap());
    let copied = create(&mut guest, &c);
    let dirty = create(&mut guest, &b);
    cleared(&mut guest, &b);
    cleared(&mut guest, &c);
    guest.adapter.fill_for(&b, dirty, 0, LARGE, 0xDD).unwrap();
    cleared(&mut guest, &b);
    let place = guest.adapter.describe(dirty).unwrap().start_page;
    guest.adapter.destroy(dirty).unwrap();
    let shared = create(&mut guest, &a);
    assert_eq!(guest.adapter.describe(shared).unwrap().start_page, place);
    let early = guest.adapter.copy_for(&c, copied, 0, shared, 0, LARGE);
    assert_eq!(early, Err(Error::Busy), "it shows what was there before");
    guest.adapter.close_client(a);
    let copy = guest.call(|adapter| adapter.copy_for(&c, copied, 0, shared, 0, LARGE));
    wait(&mut guest, &c, copy.unwrap());
    assert_eq!(words(&mut guest, copied), [0; 6]);
    assert_eq!(words(&mut guest, shared), [0; 6]);
}

#[test]
fn what_a_client_that_is_gone_had_queued_never_runs() {
    let mut guest = guest();
    let [a, b] = [(); 2].map(|()| guest.adapter.open_client().unwrap());
    let shared = create(&mut guest, &b);
    cleared(&mut guest, &b);
    guest.adapter.fill_for(&a, shared, 0, LARGE, 0xA1).unwrap();
    guest.adapter.close_client(a);
    let fill = guest.adapter.fill_for(&b, shared, 0, 4, 0xB1).unwrap();
    wait(&mut guest, &b, fill);
    // Two pieces were on the ring, the third was not.
    assert_eq!(words(&mut guest, shared), [0xB1, 0xA1, 0xA1, 0xA1, 0, 0]);
}
