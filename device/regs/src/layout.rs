//! How a register's bits are declared: once, as a type with accessors and as a
//! list that tools can print and the model can check.

/// One bit field of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name; `__` for reserved bits.
    pub name: &'static str,
    /// Lowest bit.
    pub low: u8,
    /// How many bits.
    pub bits: u8,
    doc: &'static str,
}

impl Field {
    /// Used by the declaring macro, which fills in the places afterwards.
    pub(crate) const fn new(name: &'static str, bits: u8, doc: &'static str) -> Self {
        Self {
            name,
            low: 0,
            bits,
            doc,
        }
    }

    /// Whether nobody knows a meaning.
    pub const fn is_reserved(&self) -> bool {
        self.name.as_bytes()[0] == b'_'
    }

    /// Highest bit.
    pub const fn high(&self) -> u8 {
        self.low + self.bits - 1
    }

    /// Its bits in the register.
    pub const fn mask(&self) -> u32 {
        u32::MAX >> (32 - self.bits) << self.low
    }

    /// Its value in a value of the register.
    pub const fn extract(&self, value: u32) -> u32 {
        (value & self.mask()) >> self.low
    }

    /// What it means, in a sentence; empty for reserved bits.
    pub fn meaning(&self) -> &'static str {
        self.doc.trim_start()
    }
}

/// Puts fields one above the other, the first at bit 0.
pub(crate) const fn place<const N: usize>(mut fields: [Field; N]) -> [Field; N] {
    let mut low = 0;
    let mut n = 0;
    while n < N {
        fields[n].low = low;
        low += fields[n].bits;
        n += 1;
    }
    fields
}

/// The bits of a register, or of one of the kinds that alternate in a bank.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Which kind it is in its bank; empty where a bank has one kind only.
    pub name: &'static str,
    /// From bit 0 up, reserved ones included. Empty: the register is one number.
    pub fields: &'static [Field],
    /// The reserved bits.
    pub reserved: u32,
}

impl Layout {
    pub(crate) const fn new(name: &'static str, fields: &'static [Field]) -> Self {
        let mut reserved = 0;
        let mut n = 0;
        while n < fields.len() {
            if fields[n].is_reserved() {
                reserved |= fields[n].mask();
            }
            n += 1;
        }
        Self {
            name,
            fields,
            reserved,
        }
    }
}

/// Declares a bit field type, least significant field first: `name: type [bits]`,
/// reserved bits as `__: u32 [bits]`. It gets accessors and a list `FIELDS`.
macro_rules! layout {
    ($(
        $(#[doc = $about:literal])*
        $name:ident($int:ident) {
            $($(#[doc = $doc:literal])* $field:ident: $ty:ident [$bits:tt],)*
        }
    )*) => {$(
        $(#[doc = $about])*
        #[bitfield_struct::bitfield($int)]
        #[derive(PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name {
            $($(#[doc = $doc])* #[bits($bits)] pub $field: $ty,)*
        }

        impl $name {
            /// The fields, from bit 0 up.
            pub const FIELDS: &'static [$crate::layout::Field] = &$crate::layout::place([
                $($crate::layout::Field::new(stringify!($field), $bits, concat!($($doc),*)),)*
            ]);
        }
    )*};
}

pub(crate) use layout;
