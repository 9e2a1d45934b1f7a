-- Read handwriting by its neighbours: the last 97 images are new, each takes the label that wins among the five
-- known images nearest to it. One row a digit: how many there were, and how many were read.
WITH neighbors AS (
    SELECT new.id, new.label, known.label AS guess, count(*) AS votes
    FROM knn_join(
        (SELECT * FROM 'sample_data/digits.parquet' WHERE id >= 1700), id, pixels,
        (SELECT * FROM 'sample_data/digits.parquet' WHERE id < 1700), id, pixels,
        k => 5) AS pairs
    JOIN 'sample_data/digits.parquet' AS new ON new.id = pairs.id
    JOIN 'sample_data/digits.parquet' AS known ON known.id = pairs.neighbor_id
    GROUP BY new.id, new.label, known.label
),
votes AS (
    SELECT
        label,
        guess,
        row_number() OVER (PARTITION BY id ORDER BY votes DESC, guess) AS place
    FROM neighbors
)
SELECT
    label,
    count(*) AS images,
    sum(CASE WHEN guess = label THEN 1 ELSE 0 END) AS correct
FROM votes
WHERE place = 1
GROUP BY label
ORDER BY label;
