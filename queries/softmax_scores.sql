-- Softmax of scores: turn the similarities of the best matches into weights that sum to 1.
--
-- The temperature tells how sharply: cosine similarities are close together, so a small one separates them.
WITH question AS (
    SELECT package, embedding
    FROM 'sample_data/debian_packages.parquet'
    ORDER BY package
    LIMIT 1
),
matches AS (
    SELECT
        q.package AS question,
        p.package,
        1 - cosine_distance(q.embedding, p.embedding) AS similarity
    FROM question AS q
    CROSS JOIN 'sample_data/debian_packages.parquet' AS p
    WHERE p.package <> q.package
    ORDER BY similarity DESC, p.package
    LIMIT 5
),
weighed AS (
    SELECT
        question,
        array_agg(package ORDER BY similarity DESC, package) AS packages,
        array_agg(similarity ORDER BY similarity DESC, package) AS similarities
    FROM matches
    GROUP BY question
)
SELECT
    question,
    unnest(packages) AS package,
    round(unnest(similarities), 3) AS similarity,
    round(unnest(softmax(similarities, 0.1)), 3) AS weight
FROM weighed;
