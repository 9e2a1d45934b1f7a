//! The linear layer that attention's inputs and output pass through.

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

use crate::product::set_product;
use crate::real::Real;
use crate::{AttentionError, Result};

/// Rows that one thread projects at a time.
const ROWS: usize = 256;

/// output = x·Wᵀ + b: `x` is rows × in_features, `weight` out_features × in_features and `bias`
/// out_features, as PyTorch's `nn.Linear` stores them, `output` rows × out_features.
///
/// # Errors
/// [`AttentionError::Shape`] where the sizes do not fit.
pub fn linear<T: Real>(
    x: ArrayView2<'_, T>,
    weight: ArrayView2<'_, T>,
    bias: Option<ArrayView1<'_, T>>,
    mut output: ArrayViewMut2<'_, T>,
) -> Result<()> {
    AttentionError::check_size("x", "numbers wide (in_features)", weight.ncols(), x.ncols())?;
    if let Some(bias) = bias {
        AttentionError::check_size("bias", "numbers (out_features)", weight.nrows(), bias.len())?;
    }
    let expected = (x.nrows(), weight.nrows());
    if output.dim() != expected {
        return Err(AttentionError::Shape {
            name: "output",
            expected: format!("{} × {}", expected.0, expected.1),
            found: format!("{} × {}", output.nrows(), output.ncols()),
        });
    }
    output
        .axis_chunks_iter_mut(Axis(0), ROWS)
        .into_par_iter()
        .zip(x.axis_chunks_iter(Axis(0), ROWS))
        .for_each(|(mut output, x)| {
            set_product(output.view_mut(), T::one(), x, weight.t());
            if let Some(bias) = bias {
                output += &bias;
            }
        });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array2, array};
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        let (x, weight) = (
            array![[1.0, 2.0]],
            array![[3.0, 4.0], [5.0, 6.0], [0.5, 0.0]],
        );
        let bias = array![100.0, 200.0, 300.0];
        let mut output = Array2::zeros((1, 3));
        linear(
            x.view(),
            weight.view(),
            Some(bias.view()),
            output.view_mut(),
        )
        .unwrap();
        assert_eq!(output, array![[111.0, 217.0, 300.5]]);
        linear(x.view(), weight.view(), None, output.view_mut()).unwrap();
        assert_eq!(output, array![[11.0, 17.0, 0.5]]);
    }

    #[test]
    fn sizes() {
        let project = |x: (usize, usize), bias: usize, output: (usize, usize)| {
            let (x, bias) = (Array2::<f32>::zeros(x), Array1::zeros(bias));
            let (weight, mut output) = (Array2::zeros((4, 3)), Array2::zeros(output));
            linear(
                x.view(),
                weight.view(),
                Some(bias.view()),
                output.view_mut(),
            )
            .map_err(|error| error.to_string())
        };
        assert_eq!(project((2, 3), 4, (2, 4)), Ok(()));
        assert_eq!(project((0, 3), 4, (0, 4)), Ok(()));
        assert!(
            project((2, 4), 4, (2, 4))
                .unwrap_err()
                .contains("x must be 3 numbers wide")
        );
        assert!(
            project((2, 3), 3, (2, 4))
                .unwrap_err()
                .contains("bias must be 4")
        );
        assert!(
            project((2, 3), 4, (2, 3))
                .unwrap_err()
                .contains("output must be 2 × 4")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn agrees_with_the_definition(
            (rows, inputs, outputs) in (0..600_usize, 0..20_usize, 0..20_usize),
        ) {
            let number = |i: usize, j: usize| ((i * 31 + j * 17) % 23) as f32 / 7.0 - 1.5;
            let x = Array2::from_shape_fn((rows, inputs), |(i, j)| number(i, j));
            let weight = Array2::from_shape_fn((outputs, inputs), |(i, j)| number(j + 3, i));
            let mut output = Array2::from_elem((rows, outputs), f32::NAN);
            linear(x.view(), weight.view(), None, output.view_mut()).unwrap();
            for ((i, j), &value) in output.indexed_iter() {
                let exact: f64 = (0..inputs).map(|c| f64::from(x[[i, c]]) * f64::from(weight[[j, c]])).sum();
                prop_assert!((f64::from(value) - exact).abs() < 1e-5);
            }
        }
    }
}
