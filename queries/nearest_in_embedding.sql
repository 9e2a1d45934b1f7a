-- Look around in the embedding: do a digit's nearest neighbours, in 5 dimensions instead of 64, show the same digit?
--
-- The first 50 images are the questions; each is compared with all others and its five nearest are kept.
WITH embedded AS (
    SELECT
        id,
        label,
        lle_embed(pixels, 5, 15) OVER () AS embedding
    FROM 'sample_data/digits.parquet'
),
ranked AS (
    SELECT
        question.label,
        other.label AS other_label,
        row_number() OVER (
            PARTITION BY question.id
            ORDER BY array_distance(question.embedding, other.embedding), other.id
        ) AS place
    FROM embedded AS question
    CROSS JOIN embedded AS other
    WHERE question.id < 50 AND other.id <> question.id
)
SELECT
    label,
    count(*) / 5 AS questions,
    round(avg(CASE WHEN other_label = label THEN 1.0 ELSE 0.0 END), 2) AS same_label
FROM ranked
WHERE place <= 5
GROUP BY label
ORDER BY label;
