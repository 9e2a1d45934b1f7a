//! A progress bar for fits, and what they found.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lakefold::{Diagnostics, FitReporter, Phase};

use crate::numbers::{counted, grouped};
use crate::stderr::say;

/// A fit shorter than this needs no bar; drawing one would only flicker.
const PATIENCE: Duration = Duration::from_millis(300);
/// Steps of the bar, whatever the units of a phase.
const STEPS: u64 = 1000;
/// Lines of diagnostics before the rest is summed up.
const LISTED_FITS: usize = 20;

/// Draws the bar if stderr is a terminal, and remembers each fit's diagnostics until
/// [`FitProgress::take`].
#[derive(Debug)]
pub(crate) struct FitProgress {
    /// What is being done, for the bar.
    name: &'static str,
    visible: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    since: Option<Instant>,
    bar: Option<ProgressBar>,
    fits: Vec<Diagnostics>,
}

impl FitProgress {
    /// `wanted` is false for `--quiet`.
    pub(crate) fn new(name: &'static str, wanted: bool) -> Self {
        let visible = wanted && std::io::stderr().is_terminal();
        Self {
            name,
            visible,
            state: Mutex::default(),
        }
    }

    /// Runs `write` while the bar is off the screen.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        let bar = self.lock().bar.clone();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Shows another bar, if any is shown at all.
    pub(crate) fn show(&self, bar: impl FnOnce() -> ProgressBar) {
        if self.visible {
            let mut state = self.lock();
            state.clear_bar();
            state.bar = Some(bar());
        }
    }

    /// Does something to the bar, if there is one.
    pub(crate) fn with_bar(&self, change: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = &self.lock().bar {
            change(bar);
        }
    }

    /// The fits since the last call. Removes the bar of a statement that was cancelled.
    pub(crate) fn take(&self) -> Vec<Diagnostics> {
        let mut state = self.lock();
        state.running = 0;
        state.clear_bar();
        std::mem::take(&mut state.fits)
    }

    // A panic elsewhere leaves nothing half-done in here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        let mut state = self.lock();
        state.running = state.running.saturating_sub(1);
        if state.running == 0 {
            state.clear_bar();
        }
    }
}

impl State {
    fn clear_bar(&mut self) {
        self.since = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl FitReporter for FitProgress {
    fn started(&self, _rows: usize) {
        let mut state = self.lock();
        state.running += 1;
        state.since.get_or_insert_with(Instant::now);
    }

    fn progress(&self, phase: Phase, done: u64, total: u64) {
        let mut state = self.lock();
        let patient = state.since.is_none_or(|since| since.elapsed() < PATIENCE);
        if !self.visible || (patient && state.bar.is_none()) {
            return;
        }
        let fit = state.fits.len() + 1;
        let bar = state.bar.get_or_insert_with(|| new_bar(self.name));
        bar.set_position(STEPS.saturating_mul(done).checked_div(total).unwrap_or(0));
        bar.set_message(match (total, fit) {
            (0, _) => format!("{phase}, {} rows", grouped(done as usize)),
            (_, 1) => phase.to_string(),
            (_, fit) => format!("{phase} of fit {}", grouped(fit)),
        });
    }

    fn finished(&self, diagnostics: &Diagnostics) {
        self.lock().fits.push(diagnostics.clone());
        self.end();
    }

    fn ended(&self) {
        self.end();
    }
}

fn new_bar(name: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr());
    let template = "{spinner} {prefix}: {msg:<16} {bar:30} {percent:>3} %  {elapsed}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(name);
    // Factorisations report nothing for a while; the spinner shows that they live.
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Tells the user what fits found, as much as was asked for.
pub(crate) fn report_fits(fits: &[Diagnostics], verbose: bool, quiet: bool) {
    if verbose {
        for line in diagnostics_lines(fits) {
            say(&line);
        }
    }
    if let Some(note) = bridge_note(fits).filter(|_| !quiet) {
        say(&format!("note: {note}"));
    }
}

/// News about the data that the user did not ask for but should have: `None` if there is none.
fn bridge_note(fits: &[Diagnostics]) -> Option<String> {
    let bridged: Vec<_> = fits.iter().filter(|fit| fit.bridge_rounds > 0).collect();
    if bridged.is_empty() {
        return None;
    }
    let groups: usize = bridged.iter().map(|fit| fit.closed_components).sum();
    let edges: usize = bridged.iter().map(|fit| fit.bridged_edges).sum();
    let which = if fits.len() == 1 {
        String::new()
    } else {
        format!(
            " in {} of {}",
            grouped(bridged.len()),
            counted(fits.len(), "fit")
        )
    };
    Some(format!(
        "{} of rows had all neighbours among themselves{which}: {} to join them to the rest, or each \
         would have taken up a dimension of the embedding",
        counted(groups, "closed group"),
        if edges == 1 {
            "1 neighbour was replaced".to_owned()
        } else {
            format!("{} neighbours were replaced", grouped(edges))
        }
    ))
}

/// One line a fit.
fn diagnostics_lines(fits: &[Diagnostics]) -> Vec<String> {
    let mut lines: Vec<String> = fits
        .iter()
        .take(LISTED_FITS)
        .map(diagnostics_line)
        .collect();
    if fits.len() > LISTED_FITS {
        lines.push(format!(
            "lle_embed: and {} more",
            counted(fits.len() - LISTED_FITS, "fit")
        ));
    }
    lines
}

fn diagnostics_line(fit: &Diagnostics) -> String {
    let mut parts = vec![format!(
        "{} ({} distinct)",
        counted(fit.rows, "row"),
        grouped(fit.distinct_rows)
    )];
    if fit.bridge_rounds > 0 {
        parts.push(format!(
            "{} bridged",
            counted(fit.closed_components, "closed component")
        ));
    }
    parts.push(format!("solver {}", fit.solver.name()));
    match fit.eigenvalues.as_slice() {
        [] => {}
        [only] => parts.push(format!("eigenvalue {only:.1e}")),
        [first, .., last] => parts.push(format!("eigenvalues {first:.1e} … {last:.1e}")),
    }
    let seconds: f64 = fit.seconds.iter().map(|(_, seconds)| seconds).sum();
    parts.push(format!("{seconds:.1} s"));
    format!("lle_embed: {}", parts.join(", "))
}
