//! What rounding can do to the order that products propose.

/// Bounds for points of one number of dimensions. Everything is in units of the frame, see
/// [`super::centred::Frame`].
pub(super) struct ErrorBound {
    /// Of an `f32` product of so many terms, relative to the product of the norms (Higham 2002, 3.1).
    dot: f64,
    /// Of the `f64` sums that decide, doubled, relative in the same way.
    decision: f64,
}

/// Rounding to `f32`.
const UNIT: f64 = f32::EPSILON as f64 / 2.0;
/// Products below this lose digits, all of them together less than this.
const UNDERFLOW: f64 = f32::MIN_POSITIVE as f64;

impl ErrorBound {
    pub(super) fn new(dimensions: usize) -> Self {
        let terms = dimensions as f64 * UNIT;
        Self {
            dot: terms / (1.0 - terms),
            decision: (2 * dimensions + 16) as f64 * f64::EPSILON,
        }
    }

    /// The largest proposed squared distance that a point within true squared distance `reach` of a
    /// query of norm `norm` can have. `blur` bounds the distance by which either of them was misplaced
    /// before it was rounded.
    pub(super) fn proposed_squared_distance(&self, norm: f64, reach: f64, blur: f64) -> f64 {
        let other = norm + reach.sqrt();
        let rounded_input = reach.sqrt() + 1.01 * UNIT * (norm + other) + 2.0 * blur;
        let product = 2.0 * self.dot * norm * other;
        let sums = 2.0 * UNIT * (norm * other + other * other + norm * norm);
        (rounded_input * rounded_input + product + sums) * (1.0 + 1e-6) + UNDERFLOW
    }

    /// The largest squared distance of unit vectors whose computed cosine distance is at most `distance`:
    /// ‖u − v‖² = 2 (1 − u·v).
    pub(super) fn squared_chord(&self, distance: f64) -> f64 {
        2.0 * (distance + self.decision)
    }

    /// How far from their true places unit vectors may lie that were normalised in `f64`.
    pub(super) fn blur(&self, scale: f64) -> f64 {
        self.decision * scale
    }

    /// By how much proposed and computed products of vectors of these norms may differ together.
    pub(super) fn product(&self, norm: f64, other: f64) -> f64 {
        let relative = (self.dot + 2.1 * UNIT) * (1.0 + 1e-6) + self.decision;
        relative * norm * other + UNDERFLOW * (1.0 + norm + other)
    }
}
