//! What the questions for planted bugs come to in a build without the feature `sim`.

/// No bug is planted. A call, as lints would fold the conditions that it is part of if it were a literal.
#[inline(always)]
pub(crate) const fn never() -> bool {
    false
}
