//! Line editing for SQL: colours, file names inside quotes, where a statement ends.

use std::borrow::Cow;

use datafusion::prelude::SessionContext;
use datafusion_cli::highlighter::SyntaxHighlighter;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper, Result};

pub(crate) struct SqlHelper {
    files: FilenameCompleter,
    /// `None` where the user asked for no colours.
    colours: Option<SyntaxHighlighter>,
}

impl SqlHelper {
    pub(crate) fn new(context: &SessionContext) -> Self {
        let config = context.copied_config();
        let colours = std::env::var_os("NO_COLOR")
            .is_none()
            .then(|| SyntaxHighlighter::new(&config.options().sql_parser.dialect));
        Self {
            files: FilenameCompleter::new(),
            colours,
        }
    }
}

impl Helper for SqlHelper {}

impl Hinter for SqlHelper {
    type Hint = String;
}

impl Completer for SqlHelper {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        context: &Context<'_>,
    ) -> Result<(usize, Vec<Pair>)> {
        match scan(&line[..position]) {
            Scan::InText => self.files.complete(line, position, context),
            _ => Ok((position, Vec::new())),
        }
    }
}

impl Highlighter for SqlHelper {
    fn highlight<'l>(&self, line: &'l str, position: usize) -> Cow<'l, str> {
        match &self.colours {
            Some(colours) => colours.highlight(line, position),
            None => Cow::Borrowed(line),
        }
    }

    fn highlight_char(&self, line: &str, position: usize, kind: CmdKind) -> bool {
        self.colours
            .as_ref()
            .is_some_and(|colours| colours.highlight_char(line, position, kind))
    }
}

impl Validator for SqlHelper {}

/// An empty line, a command, or statements whose last one ends with a semicolon.
pub(crate) fn is_complete(input: &str) -> bool {
    let trimmed = input.trim();
    trimmed.is_empty() || trimmed.starts_with('\\') || scan(trimmed) == Scan::AfterSemicolon
}

/// What the end of a text is in.
#[derive(Debug, PartialEq, Eq)]
enum Scan {
    /// Between `'` and `'`.
    InText,
    /// Between `"` and `"`, or in a comment.
    InOther,
    /// After a semicolon and nothing but space or comments.
    AfterSemicolon,
    /// Within a statement.
    InStatement,
}

fn scan(input: &str) -> Scan {
    let mut after_semicolon = false;
    let mut characters = input.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' | '"' => {
                after_semicolon = false;
                // A doubled quote ends one text and begins the next: the same to us.
                if !characters.by_ref().any(|c| c == character) {
                    return if character == '\'' {
                        Scan::InText
                    } else {
                        Scan::InOther
                    };
                }
            }
            '-' if characters.peek() == Some(&'-') => {
                characters.by_ref().find(|c| *c == '\n');
            }
            '/' if characters.peek() == Some(&'*') => {
                let mut last = ' ';
                let closed = characters.by_ref().skip(1).any(|c| {
                    let end = last == '*' && c == '/';
                    last = c;
                    end
                });
                if !closed {
                    return Scan::InOther;
                }
            }
            ';' => after_semicolon = true,
            _ if character.is_whitespace() => {}
            _ => after_semicolon = false,
        }
    }
    if after_semicolon {
        Scan::AfterSemicolon
    } else {
        Scan::InStatement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_with_a_semicolon_outside_quotes_and_comments() {
        for complete in [
            "",
            "\\q",
            "select 1;",
            "select ';';",
            "select 1; -- done",
            "select ';' ;  ",
        ] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in [
            "select 1",
            "select ';",
            "select \";",
            "select 1 -- ;",
            "select 1 /* ;",
            "select 1; select 2",
        ] {
            assert!(!is_complete(open), "{open}");
        }
    }

    #[test]
    fn file_names_are_completed_inside_text() {
        assert_eq!(scan("select * from 'sam"), Scan::InText);
        assert_eq!(scan("select * from 'a' where b"), Scan::InStatement);
        assert_eq!(scan("select 'it''s"), Scan::InText);
    }
}
