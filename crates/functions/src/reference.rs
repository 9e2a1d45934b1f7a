//! The function reference, generated from the functions' own documentation.

use std::fmt::Write;

use datafusion::logical_expr::Documentation;

use crate::register::{all_aggregate_udfs, all_scalar_udfs, all_window_udfs};
use crate::relations::{relation_documentation, relation_functions};

/// `docs/reference.md`, as Markdown.
pub fn reference_markdown() -> String {
    let mut functions: Vec<(String, &str, Documentation)> = vec![];
    for function in all_window_udfs().unwrap_or_default() {
        if let Some(documentation) = function.documentation() {
            functions.push((
                function.name().to_owned(),
                "window function",
                documentation.clone(),
            ));
        }
    }
    for function in all_aggregate_udfs().unwrap_or_default() {
        if let Some(documentation) = function.documentation() {
            functions.push((
                function.name().to_owned(),
                "aggregate function",
                documentation.clone(),
            ));
        }
    }
    for function in all_scalar_udfs().unwrap_or_default() {
        if let Some(documentation) = function.documentation() {
            functions.push((
                function.name().to_owned(),
                "scalar function",
                documentation.clone(),
            ));
        }
    }
    for (name, _) in relation_functions() {
        if let Some(documentation) = relation_documentation(name) {
            functions.push((name.to_owned(), "function in FROM", documentation));
        }
    }
    // Sections in the order of their first functions; within one, window functions come first.
    let sections: Vec<&str> = functions
        .iter()
        .map(|(_, _, documentation)| documentation.doc_section.label)
        .collect();
    functions.sort_by_key(|(_, _, documentation)| {
        let label = documentation.doc_section.label;
        sections.iter().position(|section| *section == label)
    });
    let mut page = String::from(
        "# Function reference\n\n\
         <!-- Generated from crates/functions by `make docs-reference`: edit the functions instead. -->\n",
    );
    let mut section = "";
    for (name, kind, documentation) in &functions {
        if documentation.doc_section.label != section {
            section = documentation.doc_section.label;
            let _ = write!(page, "\n## {section}\n");
        }
        let _ = write!(page, "\n### {name}\n\n");
        describe(&mut page, kind, documentation);
    }
    page
}

fn describe(page: &mut String, kind: &str, documentation: &Documentation) {
    let _ = write!(
        page,
        "*{kind}*\n\n```text\n{}\n```\n",
        documentation.syntax_example
    );
    let _ = write!(page, "\n{}\n", documentation.description);
    if let Some(arguments) = &documentation.arguments {
        page.push_str("\n**Arguments**\n\n");
        for (name, description) in arguments {
            let _ = writeln!(page, "- `{name}`: {description}");
        }
    }
    if let Some(example) = &documentation.sql_example {
        let _ = write!(page, "\n**Example**\n\n{example}\n");
    }
    if let Some(related) = &documentation.related_udfs {
        let links: Vec<String> = related
            .iter()
            .map(|name| format!("[{name}](#{name})"))
            .collect();
        let _ = write!(page, "\n**See also** {}\n", links.join(", "));
    }
}
