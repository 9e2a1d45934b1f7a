//! `multi_head_attention` and `attention_weights` over every kind of list, NULLs and bad input.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Builder, Int64Array, ListBuilder, RecordBatch,
};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::{SessionConfig, SessionContext};
use lakefold_functions::{AttentionWeights, MultiHeadAttention};

use crate::scalar_tester::ScalarTester;
use crate::support::{error, plan_error, query, session};

type Vector<'a> = Option<&'a [f64]>;
type Sequence<'a> = Option<&'a [Vector<'a>]>;

fn sequences(rows: &[Sequence<'_>]) -> ArrayRef {
    let mut builder = ListBuilder::new(ListBuilder::new(Float64Builder::new()));
    for row in rows {
        for vector in row.iter().copied().flatten() {
            match vector {
                Some(numbers) => {
                    builder.values().values().append_slice(numbers);
                    builder.values().append(true);
                }
                None => builder.values().append(false),
            }
        }
        builder.append(row.is_some());
    }
    Arc::new(builder.finish())
}

fn vectors(rows: &[Vector<'_>]) -> ArrayRef {
    let mut builder = ListBuilder::new(Float64Builder::new());
    for row in rows {
        builder.values().append_slice(row.unwrap_or_default());
        builder.append(row.is_some());
    }
    Arc::new(builder.finish())
}

/// `List`, `LargeList` and `FixedSizeList` of `length`.
fn kinds(element: &DataType, length: i32) -> [DataType; 3] {
    let field = Arc::new(Field::new_list_field(element.clone(), true));
    [
        DataType::List(Arc::clone(&field)),
        DataType::LargeList(Arc::clone(&field)),
        DataType::FixedSizeList(field, length),
    ]
}

const NUMBERS: [DataType; 5] = [
    DataType::Float64,
    DataType::Float32,
    DataType::Float16,
    DataType::Int8,
    DataType::Int64,
];

#[test]
fn all_kinds_of_lists_numbers_and_forms() {
    let zeros: Vector = Some(&[0.0, 0.0]);
    let q = sequences(&[
        Some(&[zeros, zeros]),
        None,
        Some(&[zeros, None]),
        Some(&[zeros, zeros]),
        Some(&[zeros, zeros]),
    ]);
    let k = sequences(&[
        Some(&[Some(&[1.0, 1.0]), Some(&[2.0, 2.0])]),
        Some(&[Some(&[1.0, 1.0]), Some(&[2.0, 2.0])]),
        Some(&[Some(&[1.0, 1.0]), None]),
        None,
        Some(&[Some(&[1.0, 1.0]), Some(&[2.0, 2.0])]),
    ]);
    let v = sequences(&[
        Some(&[Some(&[1.0, 2.0]), Some(&[3.0, 4.0])]),
        Some(&[Some(&[1.0, 2.0]), Some(&[3.0, 4.0])]),
        Some(&[Some(&[5.0, 6.0]), Some(&[7.0, 8.0])]),
        Some(&[Some(&[1.0, 2.0]), Some(&[3.0, 4.0])]),
        Some(&[None, None]),
    ]);
    let heads: ArrayRef = Arc::new(Int64Array::from(vec![2, 2, 1, 2, 2]));
    let means: Vector = Some(&[2.0, 3.0]);
    let expected = sequences(&[
        Some(&[means, means]),
        None,
        Some(&[Some(&[5.0, 6.0]), None]),
        None,
        Some(&[zeros, zeros]),
    ]);
    let args = [q, k, v, heads];
    for number in NUMBERS {
        for vector in kinds(&number, 2) {
            for sequence in kinds(&vector, 2) {
                let mut types = vec![sequence; 3];
                types.push(DataType::Int64);
                let function = ScalarUDF::from(MultiHeadAttention::try_new().unwrap());
                ScalarTester::new(function, types).assert_all_forms(&args, &expected);
            }
        }
    }
}

#[test]
fn weights_of_all_kinds_of_lists_numbers_and_forms() {
    let q = vectors(&[
        Some(&[1.0, 0.0]),
        None,
        Some(&[0.0, 0.0]),
        Some(&[1.0, 1.0]),
    ]);
    let k = sequences(&[
        Some(&[Some(&[3.0, 1.0]), Some(&[3.0, 2.0])]),
        Some(&[Some(&[1.0, 1.0]), Some(&[2.0, 2.0])]),
        Some(&[None, Some(&[7.0, 7.0])]),
        None,
    ]);
    let mut expected = ListBuilder::new(Float64Builder::new());
    expected.append_value([Some(0.5), Some(0.5)]);
    expected.append_null();
    expected.append_value([None, Some(1.0)]);
    expected.append_null();
    let expected: ArrayRef = Arc::new(expected.finish());
    let args = [q, k];
    for number in NUMBERS {
        for vector in kinds(&number, 2) {
            for sequence in kinds(&vector, 2) {
                let function = ScalarUDF::from(AttentionWeights::try_new().unwrap());
                let types = vec![vector.clone(), sequence];
                ScalarTester::new(function, types).assert_all_forms(&args, &expected);
            }
        }
    }
}

fn context() -> SessionContext {
    session(SessionConfig::new())
}

/// The one value of `SELECT {call}`, as text.
async fn shown(ctx: &SessionContext, call: &str) -> String {
    let batch = query(ctx, &format!("SELECT {call}")).await.unwrap();
    let options = FormatOptions::default().with_null("NULL");
    let formatter = ArrayFormatter::try_new(batch.column(0), &options).unwrap();
    formatter.value(0).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn null_rows_keep_their_places_under_masks() {
    let ctx = context();
    // Were the NULL key left out before causality counts, query 1 would see the third value.
    let q = "[[0.0], [0.0], NULL]";
    let k = "[[0.0], NULL, [0.0]]";
    let v = "[[1.0], [100.0], [4.0]]";
    for (options, expected) in [
        (
            "is_causal => true, kv_num_heads => 1",
            "[[1.0], [1.0], NULL]",
        ),
        (
            "kv_num_heads => 1, is_causal => true, query_offset => 1, scale => NULL, softcap => 0,
             attn_mask => NULL",
            "[[1.0], [2.5], NULL]",
        ),
        ("kv_num_heads => NULL", "[[2.5], [2.5], NULL]"),
    ] {
        let call = format!("multi_head_attention({q}, {k}, {v}, 1, {options})");
        assert_eq!(shown(&ctx, &call).await, expected, "{options}");
    }
    let masked = |mask: &str| {
        format!("multi_head_attention({q}, {k}, {v}, 1, NULL, NULL, NULL, NULL, {mask})")
    };
    let boolean = "[[true, true, false], [false, true, false], [true, true, true]]";
    assert_eq!(shown(&ctx, &masked(boolean)).await, "[[1.0], [0.0], NULL]");
    let per_head = format!("[{boolean}]");
    assert_eq!(
        shown(&ctx, &masked(&per_head)).await,
        "[[1.0], [0.0], NULL]"
    );
    let added = "[[0.0, 0.0, -1e300], [0, 0, 0], [0, 0, 0]]";
    assert_eq!(shown(&ctx, &masked(added)).await, "[[1.0], [2.5], NULL]");
    // Masks that stand for every query, or lack keys.
    for (mask, expected) in [
        ("[[true, true, true]]", "[[2.5], [2.5], NULL]"),
        ("[0.0, 0.0, -1e300]", "[[1.0], [1.0], NULL]"),
        ("[[[false, true, true]]]", "[[4.0], [4.0], NULL]"),
        ("[true]", "[[1.0], [1.0], NULL]"),
        (
            "[[true, true], [false, true], [true, true]]",
            "[[1.0], [0.0], NULL]",
        ),
    ] {
        assert_eq!(shown(&ctx, &masked(mask)).await, expected, "{mask}");
    }
    let nan_in_what_no_query_sees = "multi_head_attention([[0.0], NULL], [[0.0], ['NaN'::double]],
        [[1.0], [2.0]], 1, NULL, true)";
    assert_eq!(
        shown(&ctx, nan_in_what_no_query_sees).await,
        "[[1.0], NULL]"
    );
}

/// Every kind of list, of rows that differ: one mask a row, and a constant.
#[tokio::test(flavor = "multi_thread")]
async fn masks_of_every_kind_of_list() {
    let ctx = context();
    let call = |mask: &str| {
        format!(
            "multi_head_attention([[0.0], [0.0]], [[0.0], [0.0], [0.0]], [[1.0], [3.0], [8.0]], 1, NULL, NULL, NULL, NULL, {mask})"
        )
    };
    for kind in [
        "List(Boolean)",
        "LargeList(Boolean)",
        "FixedSizeList(2, Boolean)",
    ] {
        for outer in ["", "List", "LargeList", "FixedSizeList"] {
            let (open, close, kind) = match outer {
                "" => ("", "", kind.to_owned()),
                "FixedSizeList" => ("[", "]", format!("FixedSizeList(1, {kind})")),
                outer => ("[", "]", format!("{outer}({kind})")),
            };
            let cast = |flags| format!("arrow_cast({open}{flags}{close}, '{kind}')");
            let (some, none) = (cast("[false, true]"), cast("[true, true]"));
            assert_eq!(shown(&ctx, &call(&some)).await, "[[3.0], [3.0]]", "{some}");
            let sql = format!(
                "SELECT {} FROM (VALUES (0, {some}), (1, NULL), (2, {none})) AS t (i, m) ORDER BY i",
                call("m")
            );
            let found = query(&ctx, &sql).await.unwrap();
            let options = FormatOptions::default();
            let formatter = ArrayFormatter::try_new(found.column(0), &options).unwrap();
            let rows: Vec<String> = (0..3).map(|row| formatter.value(row).to_string()).collect();
            assert_eq!(
                rows,
                ["[[3.0], [3.0]]", "[[4.0], [4.0]]", "[[2.0], [2.0]]"],
                "{kind}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_sequences_and_types() {
    let ctx = context();
    for (call, expected) in [
        (
            "multi_head_attention([[1.0, 2.0]], [], [], 2)",
            "[[0.0, 0.0]]",
        ),
        (
            "multi_head_attention([[1.0]], [], arrow_cast([], 'List(FixedSizeList(3, Float64))'), 1)",
            "[[0.0, 0.0, 0.0]]",
        ),
        ("multi_head_attention([], [[1.0]], [[1.0]], 1)", "[]"),
        ("multi_head_attention([], [], [], 3)", "[]"),
        (
            "multi_head_attention([], [[1.0]], [[1.0]], 1, NULL, NULL, NULL, NULL, [])",
            "[]",
        ),
        (
            "multi_head_attention([], [[1.0]], [[1.0]], 1, NULL, NULL, NULL, NULL, [true])",
            "[]",
        ),
        (
            "multi_head_attention([[1.0]], [], [], 1, NULL, NULL, NULL, NULL, [[]])",
            "[[0.0]]",
        ),
        ("multi_head_attention([NULL], [], [], 3)", "[NULL]"),
        ("multi_head_attention(NULL, [[1]], [[1]], 1)", "NULL"),
        ("multi_head_attention([[1]], [[1]], NULL, 1)", "NULL"),
        (
            "multi_head_attention([[1]], [[1]], [[3]], NULL::int) IS NULL",
            "",
        ),
        ("attention_weights([1.0], [])", "[]"),
        ("attention_weights([1.0], [NULL])", "[NULL]"),
        ("attention_weights(NULL, [[1.0]])", "NULL"),
        (
            "attention_weights([1.0, 0.0], [[1.0, 0.0], [1.0, 0.0]], 2, 'cosine')",
            "[0.5, 0.5]",
        ),
        (
            "attention_weights([0.0], [[1.0], [-1.0]], similarity => 'L2', scale => NULL)",
            "[0.5, 0.5]",
        ),
        ("attention_weights([1e4], [[1e4], [-1e4]])", "[1.0, 0.0]"),
        (
            "multi_head_attention([[1e4]], [[1e4], [-1e4]], [[1], [2]], 1)",
            "[[1.0]]",
        ),
    ] {
        if expected.is_empty() {
            let message = error(&ctx, &format!("SELECT {call}")).await;
            assert!(
                message.contains("num_heads is NULL and has no default"),
                "{message}"
            );
        } else {
            assert_eq!(shown(&ctx, call).await, expected, "{call}");
        }
    }
    for (query, expected) in [
        ("LargeList(List(Float32))", "LargeList(List(Float32))"),
        ("List(LargeList(Float16))", "List(LargeList(Float32))"),
        (
            "FixedSizeList(1, FixedSizeList(1, UInt8))",
            "FixedSizeList(1 x List(Float32))",
        ),
    ] {
        let call = format!(
            "arrow_typeof(multi_head_attention(arrow_cast([[1]], '{query}'),
                arrow_cast([[1]], 'List(List(Float32))'), arrow_cast([[1]], 'List(List(Int8))'), 1))"
        );
        assert_eq!(shown(&ctx, &call).await, expected);
    }
    let wide = "arrow_typeof(multi_head_attention(arrow_cast([[1]], 'List(List(Float32))'), [[1]], [[1]], 1))";
    assert_eq!(shown(&ctx, wide).await, "List(List(Float64))");
}

#[tokio::test(flavor = "multi_thread")]
async fn constants_that_fit_no_row_are_refused_before_reading() {
    let ctx = context();
    let mha = "multi_head_attention([[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]]";
    for (call, expected) in [
        (
            format!("{mha})"),
            "multi_head_attention takes 4 to 10 arguments, got 3: write",
        ),
        (
            format!("{mha}, 0)"),
            "num_heads must be a whole number of at least 1, got 0",
        ),
        (
            format!("{mha}, -2)"),
            "num_heads must be a whole number of at least 1, got -2",
        ),
        (
            format!("{mha}, 1.5)"),
            "num_heads of multi_head_attention must be a whole number, got Float64",
        ),
        (
            format!("{mha}, 2, 3)"),
            "kv_num_heads must be a divisor of num_heads = 2, got 3",
        ),
        (
            format!("{mha}, 1, 1, 'yes')"),
            "is_causal of multi_head_attention must be true or false, got Utf8",
        ),
        (
            format!("{mha}, 1, 1, true, 'NaN'::double)"),
            "scale must be a finite number, got NaN",
        ),
        (format!("{mha}, 1, 1, true, 1, -1)"), "softcap must be"),
        (
            format!("{mha}, 1, 1, 2)"),
            "is_causal must be true or false, or 1 or 0, got 2",
        ),
        (
            format!("{mha}, 1, 1, true, 1, 1, 1)"),
            "attn_mask of multi_head_attention must be lists of",
        ),
        (
            format!("{mha}, 1, 1, true, 1, 1, [[[[true]]]])"),
            "attn_mask of multi_head_attention must be lists of",
        ),
        (
            format!("{mha}, 1, 1, true, 1, 1, [['a']])"),
            "attn_mask of multi_head_attention must be lists of",
        ),
        (
            format!("{mha}, 1, 1, true, 1, 1, NULL, 1.5)"),
            "query_offset of multi_head_attention must be a whole number, got Float64",
        ),
        (
            "multi_head_attention([1.0], [[1.0]], [[1.0]], 1)".to_owned(),
            "query of multi_head_attention must be a sequence, a list of lists of numbers, got List(Float64)",
        ),
        (
            "multi_head_attention([[1.0]], [['a']], [[1.0]], 1)".to_owned(),
            "key of multi_head_attention must be a sequence",
        ),
        (
            "attention_weights([1.0])".to_owned(),
            "attention_weights takes 2 to 4 arguments, got 1",
        ),
        (
            "attention_weights(1, [[1.0]])".to_owned(),
            "query of attention_weights must be a list of numbers",
        ),
        (
            "attention_weights([1.0], [1.0])".to_owned(),
            "keys of attention_weights must be a sequence",
        ),
        (
            "attention_weights([1.0], [[1.0]], 'infinity'::double)".to_owned(),
            "scale must be a finite number, got inf",
        ),
        (
            "attention_weights([1.0], [[1.0]], 'x')".to_owned(),
            "scale of attention_weights must be a number",
        ),
        (
            "attention_weights([1.0], [[1.0]], 1, 'euclid')".to_owned(),
            "similarity must be 'dot', 'cosine' or 'l2', got 'euclid'",
        ),
    ] {
        let message = plan_error(
            &ctx,
            &format!("SELECT {call} FROM generate_series(1, 2) AS t (i)"),
        )
        .await;
        assert!(message.contains(expected), "{call}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows() {
    let ctx = context();
    let row = "row 1 of its batch (counted from 0)";
    let good = "[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]], 1, 1, NULL::boolean[][], 0";
    for (bad, expected) in [
        (
            "[[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]], [[1.0, 2.0]], 2, 2, NULL, 0",
            "query must be a multiple of num_heads = 2 numbers wide, got 3: choose a num_heads",
        ),
        (
            "[[1.0, 2.0]], [[1.0]], [[1.0]], 1, 1, NULL, 0",
            "key must be kv_num_heads (num_heads when omitted) · d_k = 1 · 2 = 2 numbers wide, got 1: queries and keys need heads of \
             one width",
        ),
        (
            "[[1.0, 2.0]], [[1.0, 2.0], [1.0, 2.0]], [[1.0]], 1, 1, NULL, 0",
            "key has 2 positions, value has 1: a sequence needs one value for each key",
        ),
        (
            "[[1.0, 2.0]], [[1.0, 2.0]], [[1.0]], 2, 2, NULL, 0",
            "value must be a multiple of kv_num_heads (num_heads when omitted) = 2 numbers wide, got 1",
        ),
        (
            "[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]], 4, 3, NULL, 0",
            "kv_num_heads must be a divisor",
        ),
        (
            "[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]], 0, 1, NULL, 0",
            "num_heads must be a whole number",
        ),
        (
            "[[1.0, 2.0], [3.0]], [[1.0, 2.0]], [[1.0, 2.0]], 1, 1, NULL, 0",
            "query of multi_head_attention, row 1 of its batch (counted from 0): position 1 has 1 numbers, \
             those before it have 2: all vectors",
        ),
        (
            "[[1.0, 2.0]], [[1.0, NULL]], [[1.0, 2.0]], 1, 1, NULL, 0",
            "key of multi_head_attention, row 1 of its batch (counted from 0): position 0 has NULL as number 1",
        ),
        (
            "[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]], 1, 1, [[true], [true]], 0",
            "attn_mask must be 1 × 1 × 1 (heads × queries × keys; 1 head or 1 query stands for all, missing keys \
             are masked out), got 1 × 2 × 1: write lists of L × S or num_heads × L × S",
        ),
        (
            "[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]], 1, 1, [[true, false]], 0",
            "attn_mask must be 1 × 1 × 1 (heads × queries × keys; 1 head or 1 query stands for all, missing keys \
             are masked out), got 1 × 1 × 2",
        ),
        (
            "[[1.0, 2.0], [NULL, NULL]], [[1.0, 2.0]], [[1.0, 2.0]], 1, 1, [[true], [true], [true]], 0",
            "position 1 has NULL as number 0: replace the number",
        ),
        (
            "[[1.0, 2.0], NULL, NULL], [[1.0, 2.0]], [[1.0, 2.0]], 1, 1, [[true], [true]], 0",
            "attn_mask must be 1 × 3 × 1 (heads × queries × keys;",
        ),
        (
            "[[1.0, 2.0], [1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]], 1, 1, [[true], []], 0",
            "list 1 of its queries has 0 elements, those before it have 1: a mask's lists need one length",
        ),
        (
            "[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]], 1, 1, [[NULL]], 0",
            "the element for query 0 and key 0 of mask 0 (all counted from 0) is NULL",
        ),
        (
            "[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]], 1, 1, [NULL], 0",
            "list 0 of its queries is NULL: write a list of truth values or numbers",
        ),
        (
            "[['NaN'::double, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]], 1, 1, NULL, 0",
            "the score of query 0 and key 0 of head 0 (counted from 0) is NaN; remove NaN and infinity",
        ),
        (
            "[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 'NaN'::double]], 1, 1, NULL, 0",
            "may see give NaN in column 1; remove NaN and infinity from the values",
        ),
        (
            "[[1.0, 2.0]], [[1.0, 2.0]], [['-inf'::double, 1.0]], 1, 1, NULL, 0",
            "may see give -inf in column 0; remove NaN and infinity from the values",
        ),
        (
            "[[1e300, 0.0]], [[-1e300, 0.0]], [[1.0, 2.0]], 1, 1, NULL, 0",
            "the score of query 0 and key 0 of head 0 (counted from 0) is -inf; remove NaN and infinity",
        ),
    ] {
        let sql = format!(
            "SELECT multi_head_attention(q, k, v, n, m, NULL, NULL, NULL, a, o)
             FROM (SELECT * FROM (VALUES (0, {good}), (1, {bad})) AS t (i, q, k, v, n, m, a, o) ORDER BY i)"
        );
        let message = error(&ctx, &sql).await;
        assert!(
            message.contains(expected) && message.contains(row),
            "{bad}: {message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_constants_of_the_right_type() {
    let ctx = context();
    let per_head = "SELECT multi_head_attention([[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]], 2,
        attn_mask => [[[true]], [[true]], [[true]]], kv_num_heads => 2, is_causal => false, scale => 1, softcap => 0)";
    let message = error(&ctx, per_head).await;
    assert!(
        message.contains("attn_mask must be 2 × 1 × 1 (heads × queries × keys; 1 head or 1 query stands for all, missing keys are masked out), got 3 × 1 × 1"),
        "{message}"
    );
    for (call, expected) in [
        (
            "attention_weights([1.0, 2.0], [[1.0]])",
            "keys of attention_weights, row 0 of its batch (counted from 0): its vectors have 1 numbers, query \
             has 2",
        ),
        (
            "attention_weights([]::double[], [[1.0]])",
            "numbers, query has 0",
        ),
        (
            "attention_weights([]::double[], [])",
            "query of attention_weights, row 0 of its batch (counted from 0) is an empty list",
        ),
        (
            "attention_weights([1.0], [[1.0], ['NaN'::double]])",
            "the score of key 1 (counted from 0) is NaN",
        ),
        (
            "attention_weights([1.0, NULL], [[1.0, 2.0]])",
            "has NULL as number 1",
        ),
    ] {
        let message = error(&ctx, &format!("SELECT {call}")).await;
        assert!(message.contains(expected), "{call}: {message}");
    }
}

/// The first bad row is named, whichever thread meets one first.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_bad_row_is_named() {
    let ctx = context();
    let rows = 64;
    let one: Vector = Some(&[1.0]);
    let nan: Vector = Some(&[f64::NAN]);
    let column = |bad: Vector<'static>| {
        let sound: &[Vector] = &[one];
        let bad: &[Vector] = &[bad];
        let rows: Vec<Sequence> = (0..rows)
            .map(|row| Some(if row >= 17 { bad } else { sound }))
            .collect();
        sequences(&rows)
    };
    let batch = RecordBatch::try_from_iter([("x", column(one)), ("y", column(nan))]).unwrap();
    ctx.register_batch("t", batch).unwrap();
    for _ in 0..5 {
        let message = error(&ctx, "SELECT multi_head_attention(x, y, x, 1) FROM t").await;
        assert!(message.contains("row 17 of its batch"), "{message}");
    }
    let whole = query(&ctx, "SELECT multi_head_attention(x, x, x, 1) FROM t")
        .await
        .unwrap();
    assert_eq!(whole.column(0).as_list::<i32>().len(), rows);
}
