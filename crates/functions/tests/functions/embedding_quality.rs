//! `embedding_quality` in FROM.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use datafusion::prelude::{SessionConfig, SessionContext};
use lakefold_functions::manifold::{
    LabelOptions, Quality, QualityOptions, embedding_quality, label_accuracy,
};
use ndarray::Array2;

use crate::support::{
    batch, error, lists, plan, plan_error, query, register, session, session_with, swiss_roll,
};

/// A flattened swiss roll: columns id, grp, x (features), e (two of the three coordinates) and label.
/// Every tenth row is there twice, and rows 3 and 4 lack features or embedding.
fn table(rows: usize) -> RecordBatch {
    let points = swiss_roll(rows);
    let point = |row: usize| points[row - usize::from(row > 0 && row.is_multiple_of(10))];
    let some = |numbers: &[f64]| Some(numbers.iter().copied().map(Some).collect::<Vec<_>>());
    let features: Vec<_> = (0..rows)
        .map(|row| if row == 3 { None } else { some(&point(row)) })
        .collect();
    let embedding: Vec<_> = (0..rows)
        .map(|row| {
            if row == 4 {
                None
            } else {
                some(&point(row)[..2])
            }
        })
        .collect();
    let labels = (0..rows).map(|row| match row % 7 {
        6 => None,
        _ if point(row)[0] > 2.0 => Some("right"),
        _ if point(row)[0] > -4.0 => Some("middle"),
        _ => Some("left"),
    });
    let base = batch(0, &features);
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::clone(base.column(0))),
        ("grp", Arc::clone(base.column(1))),
        ("x", Arc::clone(base.column(2))),
        ("e", Arc::clone(batch(0, &embedding).column(2))),
        ("label", Arc::new(labels.collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn matrix(rows: &[&Vec<f64>]) -> Array2<f64> {
    let numbers = rows.iter().flat_map(|row| row.iter().copied()).collect();
    Array2::from_shape_vec((rows.len(), rows[0].len()), numbers).unwrap()
}

/// Features, embedding and label number of the rows that have both of the first two.
fn complete(table: &RecordBatch) -> (Array2<f64>, Array2<f64>, Vec<Option<i64>>) {
    let (features, embedding) = (lists(table.column(2)), lists(table.column(3)));
    let labels = table.column(4).as_string::<i32>().iter();
    let labels = labels.map(|label| {
        let known = ["left", "middle", "right"];
        label.map(|label| known.iter().position(|k| *k == label).unwrap() as i64)
    });
    let rows = features.iter().zip(&embedding).zip(labels);
    let rows: Vec<_> = rows
        .filter_map(|((x, e), label)| Some((x.as_ref()?, e.as_ref()?, label)))
        .collect();
    (
        matrix(&rows.iter().map(|row| row.0).collect::<Vec<_>>()),
        matrix(&rows.iter().map(|row| row.1).collect::<Vec<_>>()),
        rows.iter().map(|row| row.2).collect(),
    )
}

fn float(result: &RecordBatch, column: &str) -> f64 {
    let column = result.column_by_name(column).unwrap();
    column.as_primitive::<Float64Type>().value(0)
}

fn int(result: &RecordBatch, column: &str) -> i64 {
    let column = result.column_by_name(column).unwrap();
    column.as_primitive::<Int64Type>().value(0)
}

fn assert_quality(result: &RecordBatch, expected: &Quality) {
    for (column, expected) in [
        ("trustworthiness", expected.trustworthiness),
        ("continuity", expected.continuity),
        (
            "neighborhood_preservation",
            expected.neighborhood_preservation,
        ),
        ("lle_objective", expected.lle_objective),
    ] {
        let found = float(result, column);
        assert_eq!(found.to_bits(), expected.to_bits(), "{column}: {found}");
    }
    assert_eq!(int(result, "measured_rows"), expected.measured_rows as i64);
    assert_eq!(int(result, "k"), expected.n_neighbors as i64);
}

#[tokio::test]
async fn small_tables_are_measured_exactly() {
    let table = table(400);
    let (features, embedding, labels) = complete(&table);
    let ctx = session_with(table);
    let sql =
        "SELECT * FROM embedding_quality(t, x, e, k => 7, label => label, reg => 0.01, seed => 3)";
    let result = query(&ctx, sql).await.unwrap();
    assert_eq!((result.num_rows(), int(&result, "rows")), (1, 398));
    assert_eq!(int(&result, "null_rows"), 2);
    let options = QualityOptions {
        n_neighbors: 7,
        reg: 0.01,
        ..QualityOptions::default()
    };
    let expected = embedding_quality(features.view(), embedding.view(), &options, &()).unwrap();
    assert!(expected.trustworthiness > 0.5 && expected.trustworthiness < 1.0);
    assert_quality(&result, &expected);

    let labelled: Vec<usize> = (0..398).filter(|&row| labels[row].is_some()).collect();
    let embedding = embedding.select(ndarray::Axis(0), &labelled);
    let labels: Vec<i64> = labelled.iter().filter_map(|&row| labels[row]).collect();
    let options = LabelOptions {
        seed: 3,
        ..LabelOptions::default()
    };
    let expected = label_accuracy(embedding.view(), &labels, &options, &()).unwrap();
    assert_eq!(float(&result, "label_accuracy"), expected.accuracy);
    assert!(expected.accuracy > 0.8);
    let rows = [
        int(&result, "label_train_rows"),
        int(&result, "label_test_rows"),
    ];
    assert_eq!(
        rows,
        [expected.train_rows as i64, expected.test_rows as i64]
    );
    assert_eq!(rows[0] + rows[1], labels.len() as i64);
}

#[tokio::test]
async fn large_tables_are_sampled_by_value() {
    let table = table(3000);
    let (features, embedding, _) = complete(&table);
    let options = QualityOptions {
        sample: 500,
        seed: 5,
        ..QualityOptions::default()
    };
    let expected = embedding_quality(features.view(), embedding.view(), &options, &()).unwrap();
    assert_eq!(expected.measured_rows, 500);
    let sql =
        "SELECT * FROM embedding_quality(t, x, e, label => label, sample_size => 500, seed => 5)";
    let mut results = vec![];
    for (partitions, batch_rows) in [(1, 3000), (3, 100), (2, 37)] {
        // A stride without a common divisor visits every row.
        let order = (0..3000u64).map(|row| (row * 7 + 11 * partitions) % 3000);
        let order: UInt64Array = order.collect();
        let columns = table.columns().iter();
        let columns = columns.map(|column| take(column, &order, None).unwrap());
        let shuffled = RecordBatch::try_new(table.schema(), columns.collect()).unwrap();
        let batches = (0..3000).step_by(batch_rows);
        let batches = batches.map(|start| shuffled.slice(start, batch_rows.min(3000 - start)));
        let batches: Vec<_> = batches.collect();
        let parts = batches.chunks(batches.len().div_ceil(partitions as usize));
        let ctx = session(SessionConfig::new().with_target_partitions(2));
        register(&ctx, parts.map(<[_]>::to_vec).collect());
        let result = query(&ctx, sql).await.unwrap();
        assert_eq!(int(&result, "rows"), 2998);
        assert_quality(&result, &expected);
        results.push(result);
    }
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[tokio::test]
async fn every_type_of_list_and_label() {
    let table = table(200);
    let ctx = session_with(table.clone());
    let measure = |ctx: SessionContext, label: &'static str| async move {
        let sql = format!("SELECT * FROM embedding_quality(t, x, e, 9, {label})");
        query(&ctx, &sql).await.unwrap()
    };
    let expected = measure(ctx.clone(), "label").await;
    for label in [
        "label => arrow_cast(label, 'LargeUtf8')",
        "label => arrow_cast(label, 'Dictionary(Int32, Utf8)')",
        "label => CASE label WHEN 'left' THEN 1 WHEN 'middle' THEN 2 WHEN 'right' THEN 3 END",
        "label => CASE WHEN label IS NOT NULL THEN arrow_cast(ascii(label), 'Date32') END",
        "label => CASE WHEN label IS NOT NULL THEN make_array(label) END",
    ] {
        assert_eq!(measure(ctx.clone(), label).await, expected, "{label}");
    }
    let accuracy = measure(ctx.clone(), "label => label = 'left'").await;
    assert!(float(&accuracy, "label_accuracy") > float(&expected, "label_accuracy"));
    let none = measure(ctx.clone(), "NULL").await;
    let omitted = query(&ctx, "SELECT * FROM embedding_quality(t, x, e, k => 9)");
    assert_eq!(omitted.await.unwrap(), none);
    for column in ["label_accuracy", "label_train_rows", "label_test_rows"] {
        assert!(none.column_by_name(column).unwrap().is_null(0), "{column}");
    }
    let fixed = DataType::new_fixed_size_list(DataType::Float32, 2, true);
    let embedding = cast(
        &cast(
            table.column(3),
            &DataType::new_list(DataType::Float32, true),
        )
        .unwrap(),
        &fixed,
    )
    .unwrap();
    let mut columns = table.columns().to_vec();
    columns[3] = embedding;
    let mut fields: Vec<_> = table.schema().fields().to_vec();
    fields[3] = Arc::new(Field::new("e", fixed, true));
    let schema = Arc::new(datafusion::arrow::datatypes::Schema::new(fields));
    let ctx = session_with(RecordBatch::try_new(schema, columns).unwrap());
    let rounded = measure(ctx, "label").await;
    let difference = float(&rounded, "trustworthiness") - float(&expected, "trustworthiness");
    assert!(difference.abs() < 1e-3);
}

#[tokio::test]
async fn bad_input_is_named() {
    let ctx = session_with(table(60));
    for (arguments, expected) in [
        (
            "t, x",
            "embedding_quality needs embedding: write embedding_quality((SELECT …) or input, features, \
             embedding, k => …, label => …",
        ),
        (
            "t, id, e",
            "features of embedding_quality must be a list of numbers, got Int64",
        ),
        (
            "t, x, id",
            "embedding of embedding_quality must be a list of numbers, got Int64",
        ),
        (
            "t, x, e, k => 0",
            "k of embedding_quality must be a whole number of at least 1, got 0",
        ),
        (
            "t, x, e, reg => -1",
            "reg of embedding_quality must be a finite number of at least 0, got -1",
        ),
        (
            "t, x, e, neighbors => 5",
            "embedding_quality has no argument 'neighbors': write",
        ),
    ] {
        let sql = format!("SELECT * FROM embedding_quality({arguments})");
        let message = plan_error(&ctx, &sql).await;
        assert!(message.contains(expected), "{arguments}: {message}");
    }
    for (arguments, expected) in [
        (
            "t, x, e, k => 29",
            "embedding_quality of column x: k = 29 needs more than 58 rows, found 58: \
             lower k or measure more rows",
        ),
        (
            "t, x, e, label => NULLIF(label, label)",
            ": all 58 rows are NULL: name a column that has labels, or leave label out",
        ),
        (
            "t, x, e, label => CASE WHEN id < 12 THEN label END",
            "needs at least 10 rows to train and 1 to test, found ",
        ),
        (
            "(SELECT * FROM t WHERE id = 3), x, e",
            "embedding_quality: all 1 rows are NULL in x or e, there is nothing to measure",
        ),
        (
            "(SELECT x, CASE WHEN id = 7 THEN make_array(0.0, 'NaN'::DOUBLE) ELSE e END AS e FROM t), x, e",
            "embedding_quality of column e: row 7 of its batch (counted from 0) has NaN in dimension 1",
        ),
        (
            "(SELECT id, x, CASE WHEN id = 7 THEN make_array(0.0) ELSE e END AS e FROM t), x, e, \
             label => id",
            "column e: row 7 of its batch (counted from 0, label = 7) has 1 dimensions, but row 0 has 2",
        ),
    ] {
        let sql = format!("SELECT * FROM embedding_quality({arguments})");
        let message = error(&ctx, &sql).await;
        assert!(message.contains(expected), "{arguments}: {message}");
    }
    // NaN where the other column is NULL takes no part.
    let sql = "SELECT rows FROM embedding_quality(
        (SELECT e, CASE WHEN id = 4 THEN make_array(0.0, 1.0, 'NaN'::DOUBLE) ELSE x END AS x FROM t), x, e)";
    assert_eq!(int(&query(&ctx, sql).await.unwrap(), "rows"), 58);
}

#[tokio::test]
async fn the_plan_says_what_is_measured() {
    let ctx = session_with(table(60));
    let sql = "SELECT trustworthiness FROM embedding_quality(t, x, e, label => grp)";
    let text = plan(&ctx, sql).await;
    assert!(
        text.contains(
            "ReductionExec: embedding_quality(x, e, k=12, sample_size=5000, seed=0, reg=0.001, \
             label=grp)"
        ),
        "{text}"
    );
    query(&ctx, sql).await.unwrap();
    assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);
}
