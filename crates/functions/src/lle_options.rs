//! The `options` argument: `'solver=exact, reg=0.1'`.

use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::common::{Result, plan_err};

/// Everything that the argument `options` of `lle_embed` may set.
pub const OPTION_NAMES: [&str; 10] = [
    "n_neighbors",
    "reg",
    "method",
    "solver",
    "seed",
    "n_landmarks",
    "landmark_neighbors",
    "landmark_choice",
    "sample_size",
    "neighbors_algorithm",
];

/// Splits `key=value` pairs; keys come back as spelled in [`OPTION_NAMES`].
pub(crate) fn parse_options(options: &str) -> Result<Vec<(&'static str, &str)>> {
    let mut pairs: Vec<(&'static str, &str)> = vec![];
    if options.trim().is_empty() {
        return Ok(pairs);
    }
    for pair in options.split(',') {
        let Some((key, value)) = pair.split_once('=') else {
            return plan_err!(
                "options of lle_embed are key=value pairs separated by commas, got '{}' in \
                 '{options}': write for example 'solver=exact, reg=0.1'",
                pair.trim()
            );
        };
        let (key, value) = (key.trim(), value.trim());
        let Some(name) = OPTION_NAMES
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(key))
        else {
            return plan_err!("{}", unknown_option(key));
        };
        if value.is_empty() {
            return plan_err!("option {name} of lle_embed has no value: write {name}=…");
        }
        if pairs.iter().any(|(other, _)| *other == name) {
            return plan_err!("option {name} of lle_embed is given twice: keep one of them");
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

fn unknown_option(key: &str) -> String {
    let key = key.to_ascii_lowercase();
    let nearest = OPTION_NAMES
        .into_iter()
        .map(|name| (levenshtein(&key, name), name))
        .min()
        // More edits than half of the word is no likeness.
        .filter(|(edits, name)| *edits * 2 <= name.len().max(key.len()));
    let known = OPTION_NAMES.join(", ");
    match nearest {
        Some((_, name)) => format!(
            "unknown option '{key}' of lle_embed, did you mean '{name}'? The options are {known}"
        ),
        None => format!("unknown option '{key}' of lle_embed: the options are {known}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(options: &str) -> String {
        parse_options(options).unwrap_err().to_string()
    }

    #[test]
    fn spaces_and_case_do_not_matter() {
        assert_eq!(
            parse_options("  Solver = exact ,reg=0.1,\n seed=7").unwrap(),
            [("solver", "exact"), ("reg", "0.1"), ("seed", "7")]
        );
        assert_eq!(parse_options(" ").unwrap(), []);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(
            message("sovler=exact")
                .contains("did you mean 'solver'? The options are n_neighbors, reg")
        );
        assert!(message("k=3").contains("unknown option 'k' of lle_embed: the options are"));
        assert!(message("reg=1, REG=2").contains("option reg of lle_embed is given twice"));
        assert!(message("exact").contains("key=value pairs separated by commas, got 'exact'"));
        assert!(message("reg=1,").contains("got '' in 'reg=1,'"));
        assert!(message("reg=").contains("option reg of lle_embed has no value"));
    }
}
