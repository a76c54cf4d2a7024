//! Work, then its fence, then whatever the fence allows: nothing of it early.

use super::{Check, Context, SNOOPED, UNSNOOPED};
use crate::debugfs;
use crate::device::{Buffer, Device};
use crate::error::{Error, Result, ensure};
use crate::noise::noise;
use e3k_regs::GpuVa;
use e3k_regs::fields::RingWord;
use e3k_regs::packet::{CspCommand, Header, Writer, opcode};
use presil_uapi as uapi;

// The names begin as those of data.rs do: a model that ignores copies, or fills, fails them all.
pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "fill is there when its fence comes",
        run: done_when_told,
    },
    Check {
        name: "copy from RAM that is freed meanwhile",
        run: freed_meanwhile,
    },
    Check {
        name: "work, fence and Indicators in the ring",
        run: in_the_ring,
    },
];

/// Work that takes longer than an interrupt: whoever looks at its end when the
/// fence comes sees whether the fence was early.
fn done_when_told(context: &Context) -> Result<String> {
    const ROUNDS: u32 = 4;
    let bytes = if context.small { 4 << 20 } else { 64 << 20 };
    let buffer = SNOOPED.create(context, bytes)?;
    let mapping = buffer.map()?;
    mapping.touch()?;
    for round in 1..=ROUNDS {
        let pattern = 0xF111_0000 + round;
        buffer.fill(0, bytes, pattern)?;
        let found = mapping.last_word();
        ensure!(
            found == pattern,
            "the last word of {bytes} bytes is {found:#x} when the fence of their fill with {pattern:#x} comes"
        );
    }
    Ok(format!("{ROUNDS} fills of {bytes} bytes"))
}

/// A buffer ends while the copy from it is queued, or waits in the ring, and others take
/// memory until the GPU is done: the copy is of the buffer's data, not of theirs.
fn freed_meanwhile(context: &Context) -> Result<String> {
    const BYTES: u64 = 128 << 10;
    /// Rounds of each kind in which the copy was still to come when the buffer had ended.
    const WANTED: usize = 2;
    /// At most 32 MiB of work stand before the copy, and a busy host may take its CPU from
    /// us for as long as that takes the GPU: often, but never always.
    const MOST: usize = 1000;
    // Behind another client's work, which fills the ring, a copy is queued, and comes to the
    // ring when an interrupt says that there is room: on a slow host perhaps to an idle GPU.
    // Behind work that leaves room it is in the ring at once, and so before its buffer ends.
    let other = Device::open()?;
    let queued = Long::new(context, &other, 64 << 20)?;
    let in_ring = Long::new(context, &context.device, 30 << 20)?;
    let kinds = [
        (SNOOPED, &queued),
        (UNSNOOPED, &queued),
        (SNOOPED, &in_ring),
        (UNSNOOPED, &in_ring),
    ];
    let data = |seed| noise(seed, usize::try_from(BYTES).unwrap_or(usize::MAX));
    let theirs = data(MOST as u64);
    let mut in_time = [0; 4];
    for round in 0..MOST {
        let turns = (0..kinds.len()).map(|turn| (round + turn) % kinds.len());
        let Some(turn) = turns.into_iter().find(|turn| in_time[*turn] < WANTED) else {
            return Ok(format!(
                "{BYTES} bytes; the copy was still to come in {WANTED} rounds of each kind, of {round} rounds"
            ));
        };
        let (kind, long) = kinds[turn];
        let source = kind.create(context, BYTES)?;
        let expected = data(round as u64);
        source.map()?.write(&expected)?;
        let target = SNOOPED.create(context, BYTES)?;
        target.map()?.touch()?;
        let before = long.start()?;
        let fence = target.start_copy_from(0, &source, 0, BYTES)?;
        drop(source);
        in_time[turn] += usize::from(!context.device.is_over(fence)?);
        loop {
            let other = kind.create(context, BYTES)?;
            other.map()?.write(&theirs)?;
            let info = context.device.info()?;
            if info.fence_completed == info.fence_submitted {
                break;
            }
        }
        context.device.wait(fence)?;
        long.device.wait(before)?;
        let found = target.map()?.read()?;
        let wrong = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
        ensure!(
            wrong == 0,
            "{wrong} of {BYTES} bytes are not those of the {} that was freed while the GPU was to copy them",
            kind.name
        );
    }
    Err(Error::Wrong(format!(
        "the copy was still to come in {in_time:?} of {MOST} rounds, expected {WANTED} of each kind: that shows nothing"
    )))
}

/// A large job, which keeps the GPU busy.
struct Long<'d> {
    device: &'d Device,
    buffer: Buffer,
    bytes: u64,
}

impl<'d> Long<'d> {
    fn new(context: &Context, device: &'d Device, bytes: u64) -> Result<Self> {
        let bytes = (context.at_start[0].bytes / 8).min(bytes);
        Ok(Self {
            device,
            buffer: device.create(uapi::CREATE_GPU_MOSTLY, 2 * bytes, &[])?,
            bytes,
        })
    }

    /// Starts the job; returns its fence.
    fn start(&self) -> Result<u64> {
        self.buffer
            .start_copy_from(self.bytes, &self.buffer, 0, self.bytes)
    }
}

/// The packets of one submission, as the model finds them in VRAM.
fn in_the_ring(context: &Context) -> Result<String> {
    const BYTES: u64 = 256;
    const PATTERN: u32 = 0x0DD_BA11;
    let model = context.model()?;
    let steps = debugfs::init_steps(&context.device)?;
    let step = steps.iter().find(|step| step["ring_va"].is_u64());
    // In zone 0 a GPU address is the offset in VRAM.
    let ring = debugfs::number(step.unwrap_or(&serde_json::Value::Null), "ring_va")?;
    let buffer = SNOOPED.create(context, BYTES)?;
    let tail = || model.register(RingWord::Tail.offset(0)).map(u64::from);
    let before = tail()?;
    buffer.fill(0, BYTES, PATTERN)?;
    let after = tail()?;
    // What does not fit before the ring's end begins at its start.
    let first = if after < before { 0 } else { before };
    let packets = model.vram(ring + first, (after - first) / 4)?;
    let at = buffer.describe()?.gpu_va;
    judge(&packets, &fill_packets(at, BYTES / 4, PATTERN))?;
    Ok(format!("{} dwords", packets.len()))
}

fn written(write: impl Fn(&mut Writer<'_>)) -> Vec<u32> {
    let mut measure = Writer::new(&mut []);
    write(&mut measure);
    let mut dwords = vec![0; measure.len()];
    write(&mut Writer::new(&mut dwords));
    dwords
}

fn fill_packets(at: u64, pixels: u64, pattern: u32) -> Vec<u32> {
    let width = u16::try_from(pixels).unwrap_or(u16::MAX);
    written(|out| {
        out.surface(0, GpuVa(at), width, 1);
        out.clear(width, 1, pattern);
    })
}

/// Indicator on, the work, its fence, Indicator off, and nothing else but zeros.
fn judge(packets: &[u32], work: &[u32]) -> Result<()> {
    let on = written(|out| out.indicator(CspCommand::INFO_3D, 0));
    let off = written(|out| out.indicator(CspCommand::INFO_OFF, 0));
    let is_fence = |dword: &u32| Header::from_bits(*dword).opcode() == opcode::FENCE;
    ensure!(
        packets.starts_with(&on),
        "the submission {packets:#x?} does not begin with an Indicator"
    );
    let begin = packets
        .windows(work.len())
        .position(|part| part == work)
        .unwrap_or(packets.len());
    let behind = packets.get(begin + work.len()..).unwrap_or_default();
    ensure!(
        behind.first().is_some_and(is_fence),
        "the fence does not follow its work in the submission {packets:#x?}"
    );
    let padding = behind.iter().rev().take_while(|dword| **dword == 0).count();
    ensure!(
        behind[..behind.len() - padding].ends_with(&off),
        "no Indicator stands behind the work of the submission {packets:#x?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission(write: impl Fn(&mut Writer<'_>)) -> Result<()> {
        let packets = written(|out| {
            write(out);
            out.pad_to(16);
        });
        judge(&packets, &fill_packets(0x1000, 64, 7))
    }

    fn work(out: &mut Writer<'_>) {
        out.surface(0, GpuVa(0x1000), 64, 1);
        out.clear(64, 1, 7);
    }

    fn on(out: &mut Writer<'_>) {
        out.indicator(CspCommand::INFO_3D, 0);
    }

    fn off(out: &mut Writer<'_>) {
        out.indicator(CspCommand::INFO_OFF, 0);
    }

    fn fence(out: &mut Writer<'_>) {
        out.fence(GpuVa(0x2000), 9, true);
    }

    #[test]
    fn each_part_of_a_submission_is_missed_where_it_belongs() {
        let run = |parts: &[fn(&mut Writer<'_>)]| {
            submission(|out| parts.iter().for_each(|part| part(out)))
        };
        assert!(run(&[on, work, fence, off]).is_ok());
        for (parts, said) in [
            (
                &[work, fence, off] as &[fn(&mut Writer<'_>)],
                "does not begin",
            ),
            (&[on, fence, work, off], "does not follow its work"),
            (&[on, work, off], "does not follow its work"),
            (&[on, fence, off], "does not follow its work"),
            (&[on, work, fence], "no Indicator stands behind"),
        ] {
            let error = run(parts).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
