//! Statements about indexes: which they are, and what they say.
//!
//! `CREATE INDEX` and `DROP INDEX` are the parser's own. `SHOW INDEXES` and `REINDEX` it does not know: they are
//! read here, and become statements that it could have made.

use datafusion::common::{TableReference, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{
    self, Ident, ObjectName, ObjectNamePart, ObjectType, VacuumStatement,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Word};

use crate::index_request::index_request;
use crate::indexes::{IndexRequest, IndexTable};

const INDEXES: [&str; 2] = ["indexes", "index"];

/// A statement about indexes.
#[derive(Debug)]
pub(crate) enum IndexStatement {
    Create(Box<IndexRequest>),
    Drop {
        names: Vec<String>,
        table: Option<IndexTable>,
        if_exists: bool,
    },
    /// Of one table, or all that the session knows.
    Show(Option<IndexTable>),
    /// Builds the indexes of a table again.
    Rebuild(IndexTable),
}

/// Reads all statements of a text.
pub(crate) fn parse_statements(parser: &mut DFParser<'_>) -> Result<Vec<Statement>> {
    let mut statements = Vec::new();
    let mut expects_delimiter = false;
    loop {
        while parser.parser.consume_token(&Token::SemiColon) {
            expects_delimiter = false;
        }
        let token = parser.parser.peek_token();
        if token == Token::EOF {
            return Ok(statements);
        }
        if expects_delimiter {
            let unexpected = parser.parser.expected("end of statement", token);
            return unexpected.map_err(|error| DataFusionError::SQL(Box::new(error), None));
        }
        statements.push(match index_statement(parser) {
            Some(statement) => statement
                .map(|statement| Statement::Statement(Box::new(statement)))
                .map_err(|error| DataFusionError::SQL(Box::new(error), None))?,
            None => parser.parse_statement()?,
        });
        expects_delimiter = true;
    }
}

type Parsed = std::result::Result<ast::Statement, datafusion::sql::sqlparser::parser::ParserError>;

/// `SHOW INDEXES [FROM table]` and `REINDEX [TABLE] table`.
fn index_statement(parser: &mut DFParser<'_>) -> Option<Parsed> {
    let parser = &mut parser.parser;
    let word = |token: Token| match token {
        Token::Word(Word { value, .. }) => value.to_ascii_lowercase(),
        _ => String::new(),
    };
    let first = word(parser.peek_token().token);
    if first == "reindex" {
        parser.next_token();
        let _is_written_out = parser.parse_keyword(Keyword::TABLE);
        let table = parser.parse_object_name(false);
        return Some(table.map(|table| {
            ast::Statement::Vacuum(VacuumStatement {
                full: false,
                sort_only: false,
                delete_only: false,
                reindex: true,
                recluster: false,
                table_name: Some(table),
                threshold: None,
                boost: false,
            })
        }));
    }
    let second = word(parser.peek_nth_token(1).token);
    if first != "show" || !INDEXES.contains(&second.as_str()) {
        return None;
    }
    parser.next_token();
    parser.next_token();
    let mut variable = vec![Ident::new(INDEXES[0])];
    let keywords = [Keyword::FROM, Keyword::IN, Keyword::ON];
    if parser.parse_one_of_keywords(&keywords).is_some() {
        let table = match parser.parse_object_name(false) {
            Ok(table) => table,
            Err(error) => return Some(Err(error)),
        };
        variable.push(Ident::new("FROM"));
        let parts = table.0.into_iter();
        variable.extend(parts.filter_map(|part| part.as_ident().cloned()));
    }
    Some(Ok(ast::Statement::ShowVariable { variable }))
}

/// What a statement says about indexes; `None` for one about something else.
pub(crate) fn of_statement(statement: &Statement) -> Result<Option<IndexStatement>> {
    let Statement::Statement(statement) = statement else {
        return Ok(None);
    };
    Ok(match statement.as_ref() {
        ast::Statement::CreateIndex(create) => {
            Some(IndexStatement::Create(Box::new(index_request(create)?)))
        }
        ast::Statement::Drop {
            object_type: ObjectType::Index,
            if_exists,
            names,
            table,
            ..
        } => Some(IndexStatement::Drop {
            names: names.iter().map(name).collect::<Result<_>>()?,
            table: table.as_ref().map(index_table).transpose()?,
            if_exists: *if_exists,
        }),
        ast::Statement::ShowVariable { variable } => shown(variable)?,
        ast::Statement::Vacuum(VacuumStatement {
            reindex: true,
            table_name,
            ..
        }) => match table_name {
            Some(table) => Some(IndexStatement::Rebuild(index_table(table)?)),
            None => {
                return plan_err!(
                    "name the table whose indexes are to be built again: REINDEX TABLE t"
                );
            }
        },
        _ => None,
    })
}

fn shown(variable: &[Ident]) -> Result<Option<IndexStatement>> {
    let Some((first, rest)) = variable.split_first() else {
        return Ok(None);
    };
    if !INDEXES.contains(&first.value.to_ascii_lowercase().as_str()) {
        return Ok(None);
    }
    let table = match rest {
        [] => None,
        [_, table @ ..] => {
            let parts = table.iter().cloned().map(ObjectNamePart::Identifier);
            Some(index_table(&ObjectName(parts.collect()))?)
        }
    };
    Ok(Some(IndexStatement::Show(table)))
}

/// In lower case unless quoted.
pub(crate) fn normal(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

pub(crate) fn name(name: &ObjectName) -> Result<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => Ok(normal(name)),
        _ => {
            plan_err!("'{name}' cannot name an index: an index is named without schema or catalog")
        }
    }
}

pub(crate) fn index_table(name: &ObjectName) -> Result<IndexTable> {
    let parts: Option<Vec<String>> = name
        .0
        .iter()
        .map(|part| part.as_ident().map(normal))
        .collect();
    let table = match parts.as_deref() {
        Some([table]) => TableReference::bare(table.clone()),
        Some([schema, table]) => TableReference::partial(schema.clone(), table.clone()),
        Some([catalog, schema, table]) => {
            TableReference::full(catalog.clone(), schema.clone(), table.clone())
        }
        _ => return plan_err!("'{name}' names no table"),
    };
    Ok(IndexTable::Named(table))
}
