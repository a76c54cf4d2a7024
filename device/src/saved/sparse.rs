//! Long arrays of mostly zeros: each value that is not zero, with its index.

use super::damage::Damage;

/// The values of an array that are not zero, each with its index.
pub(crate) type Sparse<T> = Vec<(usize, T)>;

/// The values that are not zero.
pub(crate) fn save<T: Copy + Default + PartialEq>(all: &[T]) -> Sparse<T> {
    let zero = T::default();
    let all = all.iter().copied().enumerate();
    all.filter(|(_, value)| *value != zero).collect()
}

/// Puts the values where they were, into an array of zeros.
///
/// # Errors
/// The array has no such index.
pub(crate) fn restore<T>(all: &mut [T], saved: Sparse<T>, name: &str) -> Result<(), Damage> {
    let length = all.len();
    for (index, value) in saved {
        let told = || Damage::new(format!("{name} {index}, expected an index below {length}"));
        *all.get_mut(index).ok_or_else(told)? = value;
    }
    Ok(())
}
