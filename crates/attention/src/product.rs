//! Products of small matrices that may lie anywhere inside larger ones.

use ndarray::{ArrayView2, ArrayViewMut2};

use crate::real::Real;

/// out = factor · a · b, on the calling thread.
pub(crate) fn set_product<T: Real>(
    out: ArrayViewMut2<'_, T>,
    factor: T,
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
) {
    multiply(out, false, factor, a, b);
}

/// out += a · b, on the calling thread.
pub(crate) fn add_product<T: Real>(
    out: ArrayViewMut2<'_, T>,
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
) {
    multiply(out, true, T::one(), a, b);
}

fn multiply<T: Real>(
    mut out: ArrayViewMut2<'_, T>,
    accumulate: bool,
    factor: T,
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
) {
    let ((m, k), n) = (a.dim(), b.ncols());
    assert_eq!((k, (m, n)), (b.nrows(), out.dim()), "shapes of a product");
    let (out_strides, a_strides, b_strides) = (
        <[isize; 2]>::try_from(out.strides()),
        <[isize; 2]>::try_from(a.strides()),
        <[isize; 2]>::try_from(b.strides()),
    );
    let (Ok(out_strides), Ok(a_strides), Ok(b_strides)) = (out_strides, a_strides, b_strides)
    else {
        unreachable!("a matrix has two strides");
    };
    // SAFETY: the views are live for the call, `out` borrowed mutably, so it overlaps neither of the
    // others; the strides and the sizes, which agree, are the views' own.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            out_strides[1],
            out_strides[0],
            accumulate,
            a.as_ptr(),
            a_strides[1],
            a_strides[0],
            b.as_ptr(),
            b_strides[1],
            b_strides[0],
            T::one(),
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
