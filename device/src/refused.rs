//! Why a copy or fill cannot be begun. Whose command it was says what that does.

use std::borrow::Cow;

/// What its registers or its rectangle say.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It contradicts itself.
    Malformed(Cow<'static, str>),
    /// The chip has it, the model does not.
    Unsupported(Cow<'static, str>),
}

impl Refused {
    pub(crate) fn malformed(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed(what.into())
    }

    pub(crate) fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Unsupported(what.into())
    }
}
