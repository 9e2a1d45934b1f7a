//! Statements about indexes: which they are, and what they say.
//!
//! `CREATE INDEX` and `DROP INDEX` are the parser's own. `SHOW INDEXES` and `REINDEX` it does not know: they are
//! read here, and become statements that it could have made.

use datafusion::common::{TableReference, plan_datafusion_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CreateIndex, Expr, Ident, IndexType, ObjectName, ObjectNamePart,
    ObjectType, UnaryOperator, VacuumStatement, Value,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Word};
use lakefold_functions::manifold::{HnswOptions, Metric};

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
            Some(IndexStatement::Create(Box::new(request(create)?)))
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
fn normal(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

fn name(name: &ObjectName) -> Result<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => Ok(normal(name)),
        _ => {
            plan_err!("'{name}' cannot name an index: an index is named without schema or catalog")
        }
    }
}

fn index_table(name: &ObjectName) -> Result<IndexTable> {
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

fn request(create: &CreateIndex) -> Result<IndexRequest> {
    let table = index_table(&create.table_name)?;
    let how = "write CREATE INDEX name ON table USING hnsw (column) WITH (metric = 'l2', m = 16, \
               ef_construction = 200)";
    let is_hnsw = |using: &Ident| using.value.eq_ignore_ascii_case("hnsw");
    match &create.using {
        Some(IndexType::Custom(using)) if is_hnsw(using) => {}
        Some(other) => return plan_err!("there are no {other} indexes, only hnsw: {how}"),
        None => return plan_err!("USING is missing: {how}"),
    }
    for (is_there, clause) in [
        (create.unique, "UNIQUE"),
        (create.concurrently, "CONCURRENTLY"),
        (create.predicate.is_some(), "WHERE"),
        (create.nulls_distinct.is_some(), "NULLS DISTINCT"),
        (
            !create.index_options.is_empty(),
            "options after the columns",
        ),
    ] {
        if is_there {
            return plan_err!("an hnsw index takes no {clause}: {how}");
        }
    }
    let [column] = create.columns.as_slice() else {
        return plan_err!(
            "an hnsw index is of one column, got {}: {how}",
            create.columns.len()
        );
    };
    let Expr::Identifier(column_name) = &column.column.expr else {
        return plan_err!(
            "an hnsw index is of a column, not of the expression {}: write the vectors into a column first",
            column.column.expr
        );
    };
    let id_column = match create.include.as_slice() {
        [] => None,
        [id] => Some(normal(id)),
        more => {
            return plan_err!(
                "INCLUDE takes one column, which names the rows, got {}",
                more.len()
            );
        }
    };
    let mut request = IndexRequest {
        name: create.name.as_ref().map(name).transpose()?,
        id_column,
        if_not_exists: create.if_not_exists,
        ..IndexRequest::new(table, normal(column_name))
    };
    if let Some(class) = &column.operator_class {
        request.metric = operator_class(&class.to_string())?;
    }
    for option in &create.with {
        set(&mut request, option)?;
    }
    Ok(request)
}

/// pgvector's spelling of the metric.
fn operator_class(class: &str) -> Result<Metric> {
    match class.to_ascii_lowercase().as_str() {
        "vector_l2_ops" => Ok(Metric::L2),
        "vector_cosine_ops" => Ok(Metric::Cosine),
        "vector_ip_ops" => Ok(Metric::InnerProduct),
        _ => plan_err!(
            "unknown operator class '{class}': one of vector_l2_ops, vector_cosine_ops, vector_ip_ops, or WITH \
             (metric = 'l2')"
        ),
    }
}

fn set(request: &mut IndexRequest, option: &Expr) -> Result<()> {
    let Expr::BinaryOp { left, op, right } = option else {
        return plan_err!("'{option}' in WITH is no option: write name = value");
    };
    let (Expr::Identifier(option_name), BinaryOperator::Eq) = (left.as_ref(), op) else {
        return plan_err!("'{option}' in WITH is no option: write name = value");
    };
    let option_name = normal(option_name);
    match option_name.as_str() {
        "metric" => {
            let text = match right.as_ref() {
                Expr::Value(value) => match &value.value {
                    Value::SingleQuotedString(text) => text.clone(),
                    other => other.to_string(),
                },
                Expr::Identifier(name) => name.value.clone(),
                other => other.to_string(),
            };
            let metric = Metric::parse(&text);
            request.metric = metric.map_err(|error| plan_datafusion_err!("{error}"))?;
        }
        "m" => request.options.m = whole_number(&option_name, right)?,
        "ef_construction" => {
            request.options.ef_construction = whole_number(&option_name, right)?;
        }
        "seed" => request.options.seed = whole_number(&option_name, right)? as u64,
        _ => {
            return plan_err!(
                "unknown option '{option_name}' of an hnsw index: one of metric, m, ef_construction, seed"
            );
        }
    }
    Ok(())
}

fn whole_number(name: &str, value: &Expr) -> Result<usize> {
    let text = match value {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.clone(),
            Value::SingleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => format!("-{expr}"),
        other => other.to_string(),
    };
    let defaults = HnswOptions::default();
    text.parse().map_err(|_| {
        plan_datafusion_err!(
            "{name} of an hnsw index must be a whole number, got {text}: such as m = {}, ef_construction = {}",
            defaults.m,
            defaults.ef_construction
        )
    })
}
