//! A stream's place in the scheduler.

/// The place of a stream in the scheduler's lists, and what it may write.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// In the control list.
    in_control: bool,
    /// In one of the data lists.
    in_data: bool,
    /// Bytes it may write this turn; negative after a frame longer than the quantum. A frame is of 16 MiB at
    /// most.
    deficit: i32,
}

impl Turn {
    /// It has control to write; true if it is to be listed for that.
    #[inline]
    #[must_use]
    pub(crate) fn enter_control(&mut self) -> bool {
        !std::mem::replace(&mut self.in_control, true)
    }

    /// It has data to write; true if it is to be listed for that.
    #[inline]
    #[must_use]
    pub(crate) fn enter_data(&mut self) -> bool {
        !std::mem::replace(&mut self.in_data, true)
    }

    /// It is taken off the control list.
    #[inline]
    pub(crate) fn leave_control(&mut self) {
        self.in_control = false;
    }

    /// It is taken off its data list; the bytes it may write now.
    #[inline]
    pub(crate) fn begin(&self, quantum: i64) -> i64 {
        i64::from(self.deficit).saturating_add(quantum).min(quantum)
    }

    /// It has written, and so many bytes of what it may are left. It has more, or not; true if it is
    /// to be listed again, as it is in any case if it `stays`.
    #[inline]
    #[must_use]
    pub(crate) fn end(&mut self, left: i64, has_data: bool, stays: bool) -> bool {
        // What it overdrew is paid at its next turn; what it left is lost if it has no more.
        let left = if has_data { left } else { left.min(0) };
        self.deficit = left.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
        self.in_data = has_data || stays;
        self.in_data
    }
}
