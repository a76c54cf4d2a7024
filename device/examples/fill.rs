//! A fill in one process: the GPU, a ring in its VRAM, one packet, no guest.
//!
//! Run it with `cargo run -p presil-device --example fill`.

use std::error::Error;

use e3k_regs::Reg;
use e3k_regs::fields::{RingAddress, RingWord};
use e3k_regs::packet::Writer;
use presil_device::{Chip, Config, Gpu, GpuVa, NoInterrupts, Progress, VramOffset, Width};

const RING_AT: u64 = 1 << 20;
const RING_BYTES: u32 = 0x1_0000;
const SURFACE_AT: u64 = 16 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    // 256 MiB of VRAM, all of it in the CPU's window, with garbage in it.
    let config = Config::new(Chip::Arise10c0, 256 << 20, 256 << 20, true)?;
    let mut gpu = Gpu::new(&config, Box::new(NoInterrupts))?;
    let vram = std::sync::Arc::clone(gpu.vram());
    vram.write(VramOffset(SURFACE_AT), &[0xAA; 4096 + 4])?;

    // After power-on the MMU is off: a GPU address is a VRAM offset. Ring 0 starts
    // (docs/programming.md, section 3).
    let address = RingAddress::new().with_page(u32::try_from(RING_AT >> 12)?);
    for (register, value) in [
        (RingWord::Size.offset(0), RING_BYTES),
        (
            RingWord::Address.offset(0),
            address.with_kickoff(true).into_bits(),
        ),
    ] {
        gpu.write(register, Width::B4, value.into());
    }

    // 1024 pixels of four bytes in one row, and a fence behind them.
    let mut dwords = [0; 64];
    let mut packets = Writer::new(&mut dwords);
    packets.surface(0, GpuVa(SURFACE_AT), 1024, 1);
    packets.clear(1024, 1, 0xC0FF_EE00);
    packets.fence(GpuVa(0x1000), 1, true);
    packets.pad_to(64);
    let bytes: Vec<u8> = dwords
        .iter()
        .flat_map(|dword| dword.to_le_bytes())
        .collect();
    vram.write(VramOffset(RING_AT), &bytes)?;
    gpu.write(
        RingWord::Tail.offset(0),
        Width::B4,
        u64::try_from(bytes.len())?,
    );
    while gpu.step(1) != Progress::Idle {}

    let mut found = [0; 4096 + 4];
    vram.read(VramOffset(SURFACE_AT), &mut found)?;
    assert!(
        found[..4096]
            .chunks(4)
            .all(|pixel| pixel == 0xC0FF_EE00_u32.to_le_bytes())
    );
    assert_eq!(found[4096..], [0xAA; 4], "nothing behind it");
    let raised = gpu.read(Reg::AdvancedRaw.offset(), Width::B4);
    println!("filled; 0x8548 (advanced interrupts) is {raised:#x}");
    Ok(())
}

#[test]
fn it_runs() {
    main().expect("the fill");
}
