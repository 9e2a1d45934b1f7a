-- Pool vectors by attention, then embed what they make up. Packages whose names begin alike (fonts-…, python3-…) are
-- the parts of one document. Its vector is the mean of its parts as the plain mean sees it: parts that say what most
-- of them say weigh more, the odd ones less. A scale of 0 makes all weights equal, which is the plain mean.
WITH parts AS (
    SELECT split_part(package, '-', 1) AS document, embedding
    FROM 'sample_data/debian_packages.parquet'
),
means AS (
    SELECT document, attention(array_repeat(0.0::FLOAT, 384), embedding, embedding, 0) AS mean
    FROM parts
    GROUP BY document
    HAVING count(*) >= 4
),
pooled AS (
    SELECT
        parts.document,
        count(*) AS packages,
        attention(mean, embedding, embedding, 20) AS vector
    FROM parts
    JOIN means ON means.document = parts.document
    GROUP BY parts.document
)
SELECT
    pooled.document,
    packages,
    array_distance(vector, mean) AS moved,
    lle_embed(vector, 2) OVER () AS embedding
FROM pooled
JOIN means ON means.document = pooled.document
ORDER BY packages DESC, document;
