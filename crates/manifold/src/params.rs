//! Parameters of Locally Linear Embedding, checked once.

use crate::{ManifoldError, NeighborsAlgorithm, Result};

/// Rows of a streaming fit's sample, unless told otherwise.
pub const DEFAULT_SAMPLE_SIZE: usize = 65_536;
/// Landmarks, unless told otherwise.
pub const DEFAULT_LANDMARKS: usize = 1000;
/// Landmarks a row, unless told otherwise.
pub const DEFAULT_LANDMARK_NEIGHBORS: usize = 60;

/// How the bottom eigenvectors are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Solver {
    /// Dense or exact up to 10,000 distinct rows; beyond, exact only where the operations of its factorisation
    /// and of placing as many rows again are predicted to be fewer than those of landmarks, and its memory is
    /// to be had. The factors of two samples, of 2,000 and 8,000 rows, predict that of all: no clock is read.
    #[default]
    Auto,
    /// LAPACK on the dense matrix: small n only, O(n²) memory. Sets OpenBLAS to one thread for the whole
    /// process, so that results do not depend on how many it would use.
    Dense,
    /// Shift-invert Lanczos on a sparse Cholesky factor.
    Exact,
    /// Locally Linear Landmarks (Vladymyrov and Carreira-Perpiñán 2013): rows are combinations of few
    /// landmarks, for which alone an eigenproblem is solved. For many rows, and for noisy ones.
    Landmarks,
}

impl Solver {
    /// The names of [`Solver::parse`].
    pub const NAMES: [&str; 4] = ["auto", "dense", "exact", "landmarks"];

    /// The spelling that [`Solver::parse`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Solver::Auto => "auto",
            Solver::Dense => "dense",
            Solver::Exact => "exact",
            Solver::Landmarks => "landmarks",
        }
    }

    /// Reads a name, in any case.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        [
            Solver::Auto,
            Solver::Dense,
            Solver::Exact,
            Solver::Landmarks,
        ]
        .into_iter()
        .find(|s| s.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| unknown("solver", name, &Self::NAMES))
    }
}

/// Which points become landmarks of [`Solver::Landmarks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LandmarkChoice {
    /// A uniform draw of the distinct rows: those with the smallest seeded hashes.
    #[default]
    Uniform,
    /// k-means++ seeding (Arthur and Vassilvitskii 2007): each with a probability proportional to its squared
    /// distance to those before it.
    KMeansPlusPlus,
    /// Each the farthest from those before it (Gonzalez 1985).
    Farthest,
}

impl LandmarkChoice {
    /// The names of [`LandmarkChoice::parse`].
    pub const NAMES: [&str; 3] = ["uniform", "k-means++", "farthest"];

    /// The spelling that [`LandmarkChoice::parse`] reads.
    pub fn name(self) -> &'static str {
        match self {
            LandmarkChoice::Uniform => "uniform",
            LandmarkChoice::KMeansPlusPlus => "k-means++",
            LandmarkChoice::Farthest => "farthest",
        }
    }

    /// Reads a name, in any case.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        [Self::Uniform, Self::KMeansPlusPlus, Self::Farthest]
            .into_iter()
            .find(|choice| choice.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| unknown("landmark_choice", name, &Self::NAMES))
    }
}

/// Which local geometry is preserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Method {
    /// Barycentre weights (Roweis and Saul 2000).
    #[default]
    Standard,
    /// Several weight vectors a point (Zhang and Wang 2006), each regularised by `reg` (scikit-learn: 0.001
    /// whatever `reg` says). Needs `n_neighbors` ≥ `n_components`.
    Modified,
    /// Second derivatives in tangent coordinates (Donoho and Grimes 2003). Needs `n_neighbors` >
    /// `n_components` · (`n_components` + 3) / 2. scikit-learn's `hessian` keeps all functionals that vanish
    /// on the tangent coordinates, not only second derivatives: it is its, and our, LTSA.
    Hessian,
    /// Local tangent space alignment (Zhang and Zha 2004). Needs `n_neighbors` > `n_components`.
    Ltsa,
}

impl Method {
    const ALL: [Method; 4] = [
        Method::Standard,
        Method::Modified,
        Method::Hessian,
        Method::Ltsa,
    ];

    /// The names of [`Method::parse`].
    pub const NAMES: [&str; 4] = ["standard", "modified", "hessian", "ltsa"];

    /// The spelling that [`Method::parse`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Method::Standard => "standard",
            Method::Modified => "modified",
            Method::Hessian => "hessian",
            Method::Ltsa => "ltsa",
        }
    }

    /// Reads a name, in any case.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|method| method.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| unknown("method", name, &Self::NAMES))
    }

    /// The fewest neighbours for `n_components`, and the rule in words.
    pub(crate) fn least_neighbors(self, n_components: usize) -> (usize, &'static str) {
        let d = n_components;
        match self {
            Method::Standard => (1, "at least 1"),
            Method::Modified => (d, "at least n_components"),
            Method::Ltsa => (d + 1, "more than n_components"),
            Method::Hessian => (
                d.saturating_mul(d + 3) / 2 + 1,
                "more than n_components·(n_components + 3)/2",
            ),
        }
    }
}

fn unknown(parameter: &'static str, value: &str, names: &[&str]) -> ManifoldError {
    ManifoldError::InvalidParameter {
        name: parameter,
        value: format!("'{value}'"),
        requirement: format!("one of {}", names.join(", ")),
    }
}

/// Unchecked parameters. Defaults: `n_neighbors` 12, `reg` 0.001, method standard, solver auto, seed 0.
#[derive(Debug, Clone, PartialEq)]
pub struct LleBuilder {
    n_components: usize,
    n_neighbors: usize,
    reg: f64,
    method: Method,
    solver: Solver,
    seed: u64,
    n_landmarks: Option<usize>,
    landmark_neighbors: Option<usize>,
    landmark_choice: LandmarkChoice,
    sample_size: usize,
    neighbors_algorithm: NeighborsAlgorithm,
    auto: Auto,
}

/// Which parameters are chosen by what they do to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Auto {
    n_components: bool,
    n_neighbors: bool,
    reg: bool,
}

impl LleBuilder {
    /// Neighbours a row (k), at least 1. Default 12.
    #[must_use]
    pub fn n_neighbors(mut self, n_neighbors: usize) -> Self {
        self.n_neighbors = n_neighbors;
        self.auto.n_neighbors = false;
        self
    }

    /// Neighbours a row as a sample of the data wants them: those that keep neighbourhoods best
    /// (trustworthiness).
    #[must_use]
    pub fn auto_n_neighbors(mut self) -> Self {
        self.auto.n_neighbors = true;
        self
    }

    /// Regularisation of the local Gram matrix, as a multiple of its trace. Default 0.001.
    #[must_use]
    pub fn reg(mut self, reg: f64) -> Self {
        self.reg = reg;
        self.auto.reg = false;
        self
    }

    /// Regularisation as a sample of the data wants it, see [`LleBuilder::auto_n_neighbors`].
    #[must_use]
    pub fn auto_reg(mut self) -> Self {
        self.auto.reg = true;
        self
    }

    /// As many components as the data has dimensions of its own
    /// ([`crate::IntrinsicDimension::n_components`]).
    #[must_use]
    pub fn auto_n_components(mut self) -> Self {
        self.auto.n_components = true;
        self
    }

    /// Which local geometry is preserved. Default [`Method::Standard`].
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// How the eigenvectors are found. Default [`Solver::Auto`].
    #[must_use]
    pub fn solver(mut self, solver: Solver) -> Self {
        self.solver = solver;
        self
    }

    /// Landmarks of [`Solver::Landmarks`] (L), below the number of distinct rows. Default: see
    /// [`Lle::n_landmarks`].
    #[must_use]
    pub fn n_landmarks(mut self, n_landmarks: usize) -> Self {
        self.n_landmarks = Some(n_landmarks);
        self
    }

    /// Landmarks that a row is a combination of, at most L. Default: see [`Lle::landmark_neighbors`].
    #[must_use]
    pub fn landmark_neighbors(mut self, landmark_neighbors: usize) -> Self {
        self.landmark_neighbors = Some(landmark_neighbors);
        self
    }

    /// Which points become landmarks. Default [`LandmarkChoice::Uniform`].
    #[must_use]
    pub fn landmark_choice(mut self, landmark_choice: LandmarkChoice) -> Self {
        self.landmark_choice = landmark_choice;
        self
    }

    /// Rows that a streaming fit sees at most, see [`crate::Sample`]; [`Lle::fit`] itself always sees all.
    /// Default 65,536.
    #[must_use]
    pub fn sample_size(mut self, sample_size: usize) -> Self {
        self.sample_size = sample_size;
        self
    }

    /// How the rows' neighbours are found. A row's nearest landmarks are found exactly under
    /// [`NeighborsAlgorithm::Exact`], else as [`NeighborsAlgorithm::Auto`] decides for their number. Default
    /// [`NeighborsAlgorithm::Auto`].
    #[must_use]
    pub fn neighbors_algorithm(mut self, algorithm: NeighborsAlgorithm) -> Self {
        self.neighbors_algorithm = algorithm;
        self
    }

    /// Seed of the eigensolver's start vectors, of the landmarks, of samples and of graphs. Default 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Checks what can be checked without data.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] for zero components or neighbours, fewer neighbours than the method
    /// needs, or a `reg` that is negative or not finite.
    pub fn build(self) -> Result<Lle> {
        let invalid = |name, value: String, requirement: &str| {
            Err(ManifoldError::InvalidParameter {
                name,
                value,
                requirement: requirement.to_owned(),
            })
        };
        if self.n_components == 0 {
            return invalid("n_components", "0".to_owned(), "at least 1");
        }
        if self.n_neighbors == 0 {
            return invalid("n_neighbors", "0".to_owned(), "at least 1");
        }
        for (name, value) in [
            ("n_landmarks", self.n_landmarks),
            ("landmark_neighbors", self.landmark_neighbors),
            ("sample_size", Some(self.sample_size)),
        ] {
            if value == Some(0) {
                return invalid(name, "0".to_owned(), "at least 1");
            }
        }
        for (name, value) in [
            ("n_components", self.n_components),
            ("n_neighbors", self.n_neighbors),
        ] {
            if value > i32::MAX as usize {
                return invalid(name, value.to_string(), "at most 2147483647");
            }
        }
        let (least, rule) = self.method.least_neighbors(self.n_components);
        let known = !self.auto.n_neighbors && !self.auto.n_components;
        if known && self.n_neighbors < least {
            return Err(ManifoldError::InvalidParameter {
                name: "n_neighbors",
                value: self.n_neighbors.to_string(),
                requirement: format!(
                    "{rule} for method '{}', so at least {least} for n_components = {}",
                    self.method.name(),
                    self.n_components
                ),
            });
        }
        if !self.reg.is_finite() || self.reg < 0.0 {
            return invalid("reg", self.reg.to_string(), "a finite number of at least 0");
        }
        Ok(Lle(self))
    }
}

/// Locally Linear Embedding with checked parameters. Made by [`Lle::builder`].
#[derive(Debug, Clone, PartialEq)]
pub struct Lle(LleBuilder);

impl Lle {
    /// Starts from the defaults listed on [`LleBuilder`].
    pub fn builder(n_components: usize) -> LleBuilder {
        LleBuilder {
            n_components,
            n_neighbors: 12,
            reg: 1e-3,
            method: Method::Standard,
            solver: Solver::Auto,
            seed: 0,
            n_landmarks: None,
            landmark_neighbors: None,
            landmark_choice: LandmarkChoice::Uniform,
            sample_size: DEFAULT_SAMPLE_SIZE,
            neighbors_algorithm: NeighborsAlgorithm::Auto,
            auto: Auto::default(),
        }
    }

    /// Whether any parameter is left to the data.
    pub fn is_auto(&self) -> bool {
        self.0.auto != Auto::default()
    }

    /// Whether [`Lle::n_components`] is left to the data.
    pub fn has_auto_components(&self) -> bool {
        self.0.auto.n_components
    }

    /// Whether [`Lle::n_neighbors`] is left to the data.
    pub fn has_auto_neighbors(&self) -> bool {
        self.0.auto.n_neighbors
    }

    /// Whether [`Lle::reg`] is left to the data.
    pub fn has_auto_reg(&self) -> bool {
        self.0.auto.reg
    }

    pub(crate) fn to_builder(&self) -> LleBuilder {
        self.0.clone()
    }

    pub(crate) fn with_n_components(&self, n_components: usize) -> Result<Lle> {
        let mut builder = self.to_builder();
        builder.n_components = n_components;
        builder.auto.n_components = false;
        builder.build()
    }

    /// As asked for, if it was.
    pub(crate) fn asked_landmarks(&self) -> Option<usize> {
        self.0.n_landmarks
    }

    /// As asked for, if it was.
    pub(crate) fn asked_landmark_neighbors(&self) -> Option<usize> {
        self.0.landmark_neighbors
    }

    /// Dimensions of the embedding (d).
    pub fn n_components(&self) -> usize {
        self.0.n_components
    }

    /// Neighbours a row (k).
    pub fn n_neighbors(&self) -> usize {
        self.0.n_neighbors
    }

    /// Regularisation, as a multiple of the local Gram matrix's trace.
    pub fn reg(&self) -> f64 {
        self.0.reg
    }

    /// Which local geometry is preserved.
    pub fn method(&self) -> Method {
        self.0.method
    }

    /// The solver asked for.
    pub fn solver(&self) -> Solver {
        self.0.solver
    }

    /// Landmarks of a fit of `distinct` rows: as asked for, else [`DEFAULT_LANDMARKS`] or half of the rows.
    pub fn n_landmarks(&self, distinct: usize) -> usize {
        let default = DEFAULT_LANDMARKS.min(distinct / 2);
        self.0.n_landmarks.unwrap_or(default)
    }

    /// Landmarks a row: as asked for, else [`DEFAULT_LANDMARK_NEIGHBORS`] or as many as there are.
    pub fn landmark_neighbors(&self, n_landmarks: usize) -> usize {
        let default = DEFAULT_LANDMARK_NEIGHBORS.min(n_landmarks);
        self.0.landmark_neighbors.unwrap_or(default)
    }

    /// Which points become landmarks.
    pub fn landmark_choice(&self) -> LandmarkChoice {
        self.0.landmark_choice
    }

    /// Rows that a streaming fit sees at most.
    pub fn sample_size(&self) -> usize {
        self.0.sample_size
    }

    /// Rows up to which a fit must see all of them: those of a sample, or any number where an exact
    /// solver was asked for.
    pub fn most_rows(&self) -> usize {
        match self.0.solver {
            Solver::Auto | Solver::Landmarks => self.0.sample_size,
            Solver::Dense | Solver::Exact => usize::MAX,
        }
    }

    /// How neighbours are found.
    pub fn neighbors_algorithm(&self) -> NeighborsAlgorithm {
        self.0.neighbors_algorithm
    }

    /// Seed of the eigensolver's start vectors, of the landmarks, of samples and of graphs.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }
}
