//! Where the statements of a run come from.

use std::io::{IsTerminal, Read};

use clap::ArgMatches;

use crate::args::SqlArgs;

/// SQL text and what to call it in errors.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Such as `-c 2` or `-f report.sql`.
    pub(crate) source: String,
    pub(crate) text: String,
}

/// What -c and -f say, in their order on the command line; without them all of stdin, unless it is
/// a terminal: `None` then asks for the interactive shell.
pub(crate) fn read(
    arguments: &SqlArgs,
    matches: &ArgMatches,
) -> Result<Option<Vec<Script>>, String> {
    let mut scripts = Vec::new();
    let several = arguments.commands.len() > 1;
    for (number, (index, text)) in indexed(matches, "commands", &arguments.commands).enumerate() {
        let source = if several {
            format!("-c {}", number + 1)
        } else {
            "-c".to_owned()
        };
        scripts.push((
            index,
            Script {
                source,
                text: text.clone(),
            },
        ));
    }
    for (index, path) in indexed(matches, "files", &arguments.files) {
        let script = if path.as_os_str() == "-" {
            stdin()?
        } else {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read '{}': {error}", path.display()))?;
            Script {
                source: format!("-f {}", path.display()),
                text,
            }
        };
        scripts.push((index, script));
    }
    if scripts.is_empty() {
        let is_terminal = std::io::stdin().is_terminal();
        return if is_terminal {
            Ok(None)
        } else {
            Ok(Some(vec![stdin()?]))
        };
    }
    scripts.sort_by_key(|(index, _)| *index);
    Ok(Some(
        scripts.into_iter().map(|(_, script)| script).collect(),
    ))
}

fn stdin() -> Result<Script, String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read statements from stdin: {error}"))?;
    Ok(Script {
        source: "stdin".to_owned(),
        text,
    })
}

fn indexed<'a, T>(
    matches: &'a ArgMatches,
    name: &str,
    values: &'a [T],
) -> impl Iterator<Item = (usize, &'a T)> {
    matches.indices_of(name).into_iter().flatten().zip(values)
}
