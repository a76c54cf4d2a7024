//! Who lies where, to be looked at.

use super::mm::Mm;
use super::world::World;
use crate::bo::Kind;
use crate::bo::pool::SmallLock;
use crate::placement::SegmentId;
use crate::placement::picture::Bar;
use core::fmt;
use e3k_regs::PAGE_SIZE;

impl<W: World + 'static> Mm<W> {
    /// A bar for each segment, lowest address first: what is the kernel's (`K`), pinned
    /// (`P`), going (`z`), each buffer (a letter or digit of its own as long as there are
    /// no more than 59) and free (`.`).
    ///
    /// # Errors
    /// Those of `w`.
    pub fn write_picture(&self, w: &mut dyn fmt::Write) -> fmt::Result {
        for segment in SegmentId::ALL {
            let (bar, used, pages) = self.state.with(|state| {
                let manager = state.manager(segment);
                let pages = manager.capacity() / PAGE_SIZE;
                let mut bar = Bar::new(pages);
                for (id, object) in state.objects.iter() {
                    let Some(at) = object.resource.as_ref() else {
                        continue;
                    };
                    let letter = match object.info.kind {
                        _ if object.dying => 'z',
                        Kind::Kernel => 'K',
                        _ if object.pins > 0 => 'P',
                        Kind::Device => letter(id.next_slot()),
                    };
                    if at.segment() == segment {
                        let extents = at.booking().extents().iter();
                        extents.for_each(|extent| bar.add(extent.first..extent.end, letter));
                    }
                }
                (bar, manager.usage() / PAGE_SIZE, pages)
            });
            writeln!(w, "{:<16}{bar} {used} of {pages} pages", segment.name())?;
        }
        Ok(())
    }
}

/// What stands for a buffer: none that stands for something else.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyABCDEFGHIJLMNOQRSTUVWXYZ0123456789";

/// One for each buffer, in turn.
fn letter(slot: usize) -> char {
    let at = LETTERS.get(slot % LETTERS.len());
    at.map_or('a', |letter| char::from(*letter))
}

#[cfg(test)]
mod tests {
    use super::{LETTERS, letter};

    #[test]
    fn no_two_of_59_buffers_look_alike_or_like_what_is_no_buffer() {
        let mut all: Vec<char> = (7..7 + LETTERS.len()).map(letter).collect();
        all.extend(['K', 'P', 'z', '.']);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 59 + 4);
    }
}
