//! Parameters of Locally Linear Embedding, checked once.

use crate::{ManifoldError, Result};

/// How the bottom eigenvectors are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Solver {
    /// The cheaper of the others by predicted time and memory.
    #[default]
    Auto,
    /// LAPACK on the dense matrix: small n only, O(n²) memory. Sets OpenBLAS to one thread for the whole
    /// process, so that results do not depend on how many it would use.
    Dense,
    /// Shift-invert Lanczos on a sparse Cholesky factor.
    Exact,
}

impl Solver {
    /// The names of [`Solver::parse`].
    pub const NAMES: [&str; 3] = ["auto", "dense", "exact"];

    /// The spelling that [`Solver::parse`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Solver::Auto => "auto",
            Solver::Dense => "dense",
            Solver::Exact => "exact",
        }
    }

    /// Reads a name, in any case.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        [Solver::Auto, Solver::Dense, Solver::Exact]
            .into_iter()
            .find(|s| s.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| unknown("solver", name, &Self::NAMES))
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
    fn least_neighbors(self, n_components: usize) -> (usize, &'static str) {
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
}

impl LleBuilder {
    /// Neighbours a row (k), at least 1. Default 12.
    #[must_use]
    pub fn n_neighbors(mut self, n_neighbors: usize) -> Self {
        self.n_neighbors = n_neighbors;
        self
    }

    /// Regularisation of the local Gram matrix, as a multiple of its trace. Default 0.001.
    #[must_use]
    pub fn reg(mut self, reg: f64) -> Self {
        self.reg = reg;
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

    /// Seed of the eigensolver's start vectors. Default 0.
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
            ("n_components", self.n_components),
            ("n_neighbors", self.n_neighbors),
        ] {
            if value > i32::MAX as usize {
                return invalid(name, value.to_string(), "at most 2147483647");
            }
        }
        let (least, rule) = self.method.least_neighbors(self.n_components);
        if self.n_neighbors < least {
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
        }
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

    /// Seed of the eigensolver's start vectors.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }
}
