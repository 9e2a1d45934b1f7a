//! The clauses of CREATE INDEX.

use datafusion::common::{plan_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CreateIndex, Expr, Ident, IndexType, UnaryOperator, Value,
};
use lakefold_functions::manifold::{HnswOptions, Metric, VectorStorage};

use crate::index_syntax::{index_table, name, normal};
use crate::indexes::IndexRequest;

/// What CREATE INDEX asks for.
///
/// # Errors
/// For clauses and options that an index of vectors does not have.
pub(crate) fn index_request(create: &CreateIndex) -> Result<IndexRequest> {
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
    if column.column.options.asc.is_some() || column.column.options.nulls_first.is_some() {
        return plan_err!("an hnsw index has no order, ASC, DESC or NULLS FIRST: {how}");
    }
    let mut given = Vec::new();
    if let Some(class) = &column.operator_class {
        request.metric = operator_class(&class.to_string())?;
        given.push("metric".to_owned());
    }
    for option in &create.with {
        let name = set(&mut request, option)?;
        if given.contains(&name) {
            return plan_err!("{name} is given twice: {how}");
        }
        given.push(name);
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

/// Takes an option; its name.
fn set(request: &mut IndexRequest, option: &Expr) -> Result<String> {
    let Expr::BinaryOp { left, op, right } = option else {
        return plan_err!("'{option}' in WITH is no option: write name = value");
    };
    let (Expr::Identifier(option_name), BinaryOperator::Eq) = (left.as_ref(), op) else {
        return plan_err!("'{option}' in WITH is no option: write name = value");
    };
    let option_name = normal(option_name);
    match option_name.as_str() {
        "metric" => {
            let metric = Metric::parse(&word(right));
            request.metric = metric.map_err(|error| plan_datafusion_err!("{error}"))?;
        }
        "storage" => {
            let storage = VectorStorage::parse(&word(right));
            request.storage = storage.map_err(|error| {
                plan_datafusion_err!("{error}: write storage = 'auto', or leave it out")
            })?;
        }
        "m" => request.options.m = whole_number(&option_name, right)?,
        "ef_construction" => {
            request.options.ef_construction = whole_number(&option_name, right)?;
        }
        "seed" => request.options.seed = whole_number(&option_name, right)? as u64,
        _ => {
            return plan_err!(
                "unknown option '{option_name}' of an hnsw index: one of metric, m, ef_construction, seed, storage"
            );
        }
    }
    Ok(option_name)
}

/// With quotes or without.
fn word(value: &Expr) -> String {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        Expr::Identifier(name) => name.value.clone(),
        other => other.to_string(),
    }
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
