//! How long arrays of mostly zeros are saved: their length, and each value
//! that is not zero behind its index.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest array that is saved so: the words of BAR0.
const LENGTH_MAX: usize = 1 << 18;

pub(crate) fn serialize<C, T, S>(all: &C, serializer: S) -> Result<S::Ok, S::Error>
where
    C: AsRef<[T]>,
    T: Serialize + Default + PartialEq,
    S: Serializer,
{
    let all = all.as_ref();
    let zero = T::default();
    let set: Vec<_> = all
        .iter()
        .enumerate()
        .filter(|(_, value)| **value != zero)
        .collect();
    (all.len(), set).serialize(serializer)
}

pub(crate) fn deserialize<'de, C, T, D>(deserializer: D) -> Result<C, D::Error>
where
    C: AsRef<[T]> + TryFrom<Vec<T>>,
    T: Deserialize<'de> + Default + Clone,
    D: Deserializer<'de>,
{
    let (length, set): (usize, Vec<(usize, T)>) = Deserialize::deserialize(deserializer)?;
    if length > LENGTH_MAX {
        return Err(D::Error::custom(format_args!(
            "an array of {length} is longer than {LENGTH_MAX}"
        )));
    }
    let mut all = vec![T::default(); length];
    for (index, value) in set {
        *all.get_mut(index).ok_or_else(|| {
            D::Error::custom(format_args!("index {index} in an array of {length}"))
        })? = value;
    }
    C::try_from(all)
        .map_err(|_| D::Error::custom(format_args!("an array of {length}: wrong length")))
}
