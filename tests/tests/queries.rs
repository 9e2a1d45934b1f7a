//! Runs every example of queries/ and checks that it gives what it promises.

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use lakefold_tests::{lines, repository, session};

/// The last statement's result.
async fn run(name: &str) -> Vec<RecordBatch> {
    std::env::set_current_dir(repository()).unwrap();
    let sql = std::fs::read_to_string(format!("queries/{name}.sql")).unwrap();
    let session = session().unwrap();
    let mut last = Vec::new();
    for statement in session.statements(&sql).unwrap() {
        last = session
            .execute(statement)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
    }
    last
}

/// The same, every value as text.
async fn rows(name: &str) -> Vec<Vec<String>> {
    let batches = run(name).await;
    batches.iter().flat_map(|b| lines(b).unwrap()).collect()
}

fn number(text: &str) -> f64 {
    text.parse()
        .unwrap_or_else(|_| panic!("'{text}' is no number"))
}

/// The numbers of a list such as `[0.5, -1.2]`.
fn list(text: &str) -> Vec<f64> {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    inner.unwrap().split(", ").map(number).collect()
}

fn column(rows: &[Vec<String>], column: usize) -> Vec<f64> {
    rows.iter().map(|row| number(&row[column])).collect()
}

/// Pearson's.
fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let dot = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        x.iter()
            .zip(y)
            .map(|(x, y)| f(x - mean_x, y - mean_y))
            .sum()
    };
    dot(&|x, y| x * y) / (dot(&|x, _| x * x) * dot(&|_, y| y * y)).sqrt()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_has_a_test() {
    let mut names: Vec<String> = std::fs::read_dir(repository().join("queries"))
        .unwrap()
        .filter_map(|entry| {
            Some(
                entry
                    .unwrap()
                    .file_name()
                    .to_str()?
                    .strip_suffix(".sql")?
                    .to_owned(),
            )
        })
        .collect();
    names.sort();
    let tested = [
        "attention_topk",
        "embed_per_group",
        "embed_table",
        "features_from_columns",
        "join_metadata",
        "nearest_in_embedding",
        "nearest_neighbors",
        "neighborhood_attention",
        "neighbors_through_a_graph",
        "pooled_documents",
        "softmax_scores",
        "swiss_roll_truth",
        "write_chunks",
    ];
    assert_eq!(names, tested);
}

#[tokio::test(flavor = "multi_thread")]
async fn embed_table() {
    let rows = rows("embed_table").await;
    assert_eq!(rows.len(), 10);
    for (id, row) in rows.iter().enumerate() {
        // The first ten digits of the file are 0 to 9.
        assert_eq!(row[..2], [id.to_string(), id.to_string()]);
        assert_eq!(list(&row[2]).len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn embed_per_group() {
    let batches = run("embed_per_group").await;
    insta::assert_snapshot!(pretty_format_batches(&batches).unwrap());
}

/// The first coordinate follows the roll.
#[tokio::test(flavor = "multi_thread")]
async fn features_from_columns() {
    let rows = rows("features_from_columns").await;
    assert_eq!(column(&rows, 0), (0..10).map(f64::from).collect::<Vec<_>>());
    let t = column(&rows, 1);
    let first: Vec<f64> = rows.iter().map(|row| list(&row[2])[0]).collect();
    assert!(correlation(&t, &first).abs() > 0.99, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn join_metadata() {
    let rows = rows("join_metadata").await;
    assert_eq!(rows[0][..2], ["libs", "509"]);
    let packages = column(&rows, 1);
    assert!(packages.is_sorted_by(|a, b| a >= b) && packages.iter().all(|n| *n >= 50.0));
    // The centre of all rows is 0, and duplicates move it little.
    for center in [2, 3] {
        let weighted = column(&rows, center).into_iter().zip(&packages);
        let mean = weighted.map(|(c, n)| c * n).sum::<f64>() / packages.iter().sum::<f64>();
        assert!(mean.abs() < 0.2, "{mean}");
    }
    assert!(column(&rows, 4).iter().all(|kib| *kib > 0.0));
}

/// In 5 of 64 dimensions, neighbours still show the same digit three times out of four; by chance it
/// would be one in ten.
#[tokio::test(flavor = "multi_thread")]
async fn nearest_in_embedding() {
    let rows = rows("nearest_in_embedding").await;
    assert_eq!(column(&rows, 0), (0..10).map(f64::from).collect::<Vec<_>>());
    let questions = column(&rows, 1);
    assert_eq!(questions.iter().sum::<f64>(), 50.0);
    let shares = column(&rows, 2);
    assert!(
        shares.iter().all(|share| (0.3..=1.0).contains(share)),
        "{rows:?}"
    );
    let same: f64 = shares
        .iter()
        .zip(&questions)
        .map(|(share, n)| share * n)
        .sum();
    assert!(same / 50.0 > 0.7, "{rows:?}");
}

/// Every new image is counted once, and neighbours read nearly all of them.
#[tokio::test(flavor = "multi_thread")]
async fn nearest_neighbors() {
    let rows = rows("nearest_neighbors").await;
    assert_eq!(column(&rows, 0), (0..10).map(f64::from).collect::<Vec<_>>());
    let [images, correct] = [1, 2].map(|place| column(&rows, place).iter().sum::<f64>());
    assert_eq!(images, 97.0);
    assert!(correct >= 92.0, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attention_topk() {
    let rows = rows("attention_topk").await;
    assert_eq!(column(&rows, 0), (0..10).map(f64::from).collect::<Vec<_>>());
    let [images, correct] = [1, 2].map(|place| column(&rows, place).iter().sum::<f64>());
    assert_eq!(images, 97.0);
    assert!(correct >= 90.0, "{rows:?}");
    let least = column(&rows, 3);
    assert!(
        least.iter().all(|weight| (0.0..=0.02).contains(weight)),
        "{rows:?}"
    );
}

/// More rows in view find more.
#[tokio::test(flavor = "multi_thread")]
async fn neighbors_through_a_graph() {
    let rows = rows("neighbors_through_a_graph").await;
    assert_eq!(column(&rows, 0), [10.0, 100.0]);
    let recall = column(&rows, 1);
    assert!(
        recall[0] > 0.6 && recall[1] > 0.97 && recall[1] > recall[0],
        "{rows:?}"
    );
}

/// Both kinds of weights sum to 1; attention falls with the rank and stays positive, and no mean comes nearer
/// than the barycentre.
#[tokio::test(flavor = "multi_thread")]
async fn neighborhood_attention() {
    let rows = rows("neighborhood_attention").await;
    assert_eq!(column(&rows, 0), (0..10).map(f64::from).collect::<Vec<_>>());
    let mut negative = 0;
    for row in &rows {
        let (attention, barycenter) = (list(&row[1]), list(&row[2]));
        for weights in [&attention, &barycenter] {
            assert_eq!(weights.len(), 12);
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{row:?}");
        }
        assert!(attention.is_sorted_by(|a, b| a >= b), "{row:?}");
        assert!(attention.iter().all(|weight| *weight > 0.0));
        negative += barycenter.iter().filter(|weight| **weight < 0.0).count();
        assert!(number(&row[3]) > number(&row[4]), "{row:?}");
    }
    assert!(negative > 0, "some digit lies outside its neighbours");
}

/// Documents of at least four packages, and attention moves their vectors, though not far.
#[tokio::test(flavor = "multi_thread")]
async fn pooled_documents() {
    let rows = rows("pooled_documents").await;
    assert!(rows.len() > 60, "{}", rows.len());
    let packages = column(&rows, 1);
    assert!(packages.is_sorted_by(|a, b| a >= b) && packages.iter().all(|n| *n >= 4.0));
    let moved = column(&rows, 2);
    // Equal parts weigh the same, so that a document of nothing else stays where it was.
    assert!(moved.iter().all(|distance| (0.0..0.7).contains(distance)));
    assert!(moved.iter().sum::<f64>() / moved.len() as f64 > 0.05);
    for place in 0..2 {
        let coordinates: Vec<f64> = rows.iter().map(|row| list(&row[3])[place]).collect();
        let n = coordinates.len() as f64;
        let square: f64 = coordinates.iter().map(|c| c * c).sum();
        assert!((square / n - 1.0).abs() < 1e-4, "variance {}", square / n);
    }
}

/// Weights sum to 1, and their logarithms differ as the similarities do, divided by the temperature.
#[tokio::test(flavor = "multi_thread")]
async fn softmax_scores() {
    let rows = rows("softmax_scores").await;
    assert_eq!(rows.len(), 5);
    assert!(
        rows.iter()
            .all(|row| row[0] == rows[0][0] && row[1] != row[0])
    );
    let (similarities, weights) = (column(&rows, 2), column(&rows, 3));
    assert!(
        (weights.iter().sum::<f64>() - 1.0).abs() < 0.003,
        "{rows:?}"
    );
    for (similarity, weight) in similarities.iter().zip(&weights) {
        let expected = weights[0] * ((similarity - similarities[0]) / 0.1).exp();
        assert!((weight - expected).abs() < 0.005, "{rows:?}");
    }
}

/// One coordinate follows the roll and the other its height.
#[tokio::test(flavor = "multi_thread")]
async fn swiss_roll_truth() {
    let rows = rows("swiss_roll_truth").await;
    let [row] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    let [first_t, first_height, second_t, second_height] = row.as_slice() else {
        panic!("{row:?}");
    };
    assert!(
        number(first_t) > 0.99 && number(second_height) > 0.9,
        "{row:?}"
    );
    assert!(
        number(first_height) < 0.1 && number(second_t) < 0.1,
        "{row:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn write_chunks() {
    let out = repository().join("out/chunks");
    if out.exists() {
        std::fs::remove_dir_all(&out).unwrap();
    }
    let rows = rows("write_chunks").await;
    assert_eq!(rows[0][..2], ["5000", "5000"]);
    assert!(rows[0][2].starts_with("List(Float32"), "{rows:?}");
    assert!(
        std::fs::read_dir(out).unwrap().count() >= 2,
        "several chunks"
    );
}
