//! Numbers that an index owns, or borrows from bytes that are shared with it.

use std::ops::Range;

use memmap2::MmapMut;

use super::SharedBytes;

mod sealed {
    /// Bytes of which any are a value.
    pub(in super::super) trait Plain: Copy + Send + Sync + 'static {}
    impl Plain for u32 {}
    impl Plain for f32 {}
    impl Plain for f64 {}
    impl Plain for u8 {}
}
pub(super) use sealed::Plain;

/// One cache line: rows and lists begin on one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; LINE]);

const LINE: usize = 16;

/// A slice of numbers that begins on a cache line, or wherever shared bytes stand.
pub(super) struct Part<T> {
    length: usize,
    memory: Memory,
    of: std::marker::PhantomData<T>,
}

enum Memory {
    Owned(Vec<Line>),
    /// Pages of their own, and large ones if there are any: searches go from row to row at random, and each
    /// would cost one more look into the page tables.
    Pages(MmapMut),
    Shared(SharedBytes, Range<usize>),
}

/// From so many bytes on, pages are taken.
const LARGE: usize = 1 << 22;

impl Memory {
    fn zeros(bytes: usize) -> Self {
        if bytes >= LARGE
            && let Ok(pages) = MmapMut::map_anon(bytes)
        {
            // Without large pages it is slower, not wrong.
            #[cfg(target_os = "linux")]
            let _ = pages.advise(memmap2::Advice::HugePage);
            return Self::Pages(pages);
        }
        Self::Owned(vec![Line([0; LINE]); bytes.div_ceil(size_of::<Line>())])
    }
}

impl<T: Plain> Part<T> {
    pub(super) fn zeros(length: usize) -> Self {
        Self {
            length,
            memory: Memory::zeros(length * size_of::<T>()),
            of: std::marker::PhantomData,
        }
    }

    /// `None` where the range is not in the bytes, or they do not stand where such numbers may.
    pub(super) fn shared(bytes: &SharedBytes, range: Range<usize>) -> Option<Self> {
        let found = (**bytes).as_ref().get(range.clone())?;
        Some(Self {
            length: view::<T>(found)?.len(),
            memory: Memory::Shared(bytes.clone(), range),
            of: std::marker::PhantomData,
        })
    }

    pub(super) fn as_slice(&self) -> &[T] {
        match &self.memory {
            // SAFETY: the lines hold at least so many numbers, and any bits are a valid one.
            Memory::Owned(lines) => unsafe {
                std::slice::from_raw_parts(lines.as_ptr().cast(), self.length)
            },
            Memory::Pages(pages) => view(pages).unwrap_or_default(),
            Memory::Shared(bytes, range) => {
                let bytes = (**bytes).as_ref().get(range.clone());
                bytes.and_then(view).unwrap_or_default()
            }
        }
    }

    /// A copy is made of what is shared.
    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        if let Memory::Shared(..) = self.memory {
            *self = self.as_slice().into();
        }
        match &mut self.memory {
            // SAFETY: as in `as_slice`; the borrow is exclusive.
            Memory::Owned(lines) => unsafe {
                std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), self.length)
            },
            // SAFETY: any bits are a valid number; pages hold whole ones, and are aligned.
            Memory::Pages(pages) => unsafe { pages.align_to_mut().1 },
            Memory::Shared(..) => &mut [],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// As they stand in memory.
    pub(super) fn bytes(&self) -> &[u8] {
        let values = self.as_slice();
        // SAFETY: numbers have no padding, and any byte is a valid `u8`.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
    }
}

impl<T: Plain> Clone for Part<T> {
    fn clone(&self) -> Self {
        match &self.memory {
            Memory::Shared(bytes, range) => Self {
                length: self.length,
                memory: Memory::Shared(bytes.clone(), range.clone()),
                of: std::marker::PhantomData,
            },
            Memory::Owned(_) | Memory::Pages(_) => self.as_slice().into(),
        }
    }
}

impl<T: Plain> From<&[T]> for Part<T> {
    fn from(values: &[T]) -> Self {
        let mut part = Self::zeros(values.len());
        part.as_mut_slice().copy_from_slice(values);
        part
    }
}

/// The numbers that stand in bytes; `None` where they are not aligned or not whole.
fn view<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: any bits are a valid number.
    let (before, values, after) = unsafe { bytes.align_to::<T>() };
    (before.is_empty() && after.is_empty()).then_some(values)
}
