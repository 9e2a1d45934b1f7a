-- Read handwriting by attention: each new image attends to the 50 known ones that resemble it most, and their values are
-- their labels, one number a digit; the largest number of the mean is read. One row a digit: how many images there were,
-- how many were read, and the largest weight that a last key still had: what was left out weighs less.
WITH known AS (
    SELECT
        pixels,
        [
            CAST(label = 0 AS DOUBLE), CAST(label = 1 AS DOUBLE), CAST(label = 2 AS DOUBLE), CAST(label = 3 AS DOUBLE),
            CAST(label = 4 AS DOUBLE), CAST(label = 5 AS DOUBLE), CAST(label = 6 AS DOUBLE), CAST(label = 7 AS DOUBLE),
            CAST(label = 8 AS DOUBLE), CAST(label = 9 AS DOUBLE)
        ] AS is_digit
    FROM 'sample_data/digits.parquet'
    WHERE id < 1700
)
SELECT
    new.label,
    count(*) AS images,
    sum(CASE WHEN array_position(found.attention, array_max(found.attention)) = new.label + 1 THEN 1 ELSE 0 END) AS correct,
    max(found.least_weight) AS least_weight
FROM attention_topk(
    (SELECT * FROM 'sample_data/digits.parquet' WHERE id >= 1700), id, pixels,
    (SELECT * FROM known), pixels, is_digit,
    k => 50, similarity => 'l2', scale => 0.01) AS found
JOIN 'sample_data/digits.parquet' AS new ON new.id = found.id
GROUP BY new.label
ORDER BY new.label;
