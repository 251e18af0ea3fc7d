// Reads the text of /metrics, and what a person wants to know of it.

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

// Returns the families by name: {name, help, type, samples: [{name, labels, value}]}.
export function parseMetrics(text) {
  const families = new Map();
  let family = null;
  for (const line of text.split("\n")) {
    if (line.startsWith("# HELP ")) {
      const [name, ...help] = line.slice(7).split(" ");
      family = { name, help: help.join(" "), type: "untyped", samples: [] };
      families.set(name, family);
    } else if (line.startsWith("# TYPE ") && family) {
      family.type = line.split(" ")[3];
    } else if (family && !line.startsWith("#")) {
      const found = SAMPLE.exec(line);
      if (!found) continue;
      const labels = {};
      for (const [, name, value] of (found[2] ?? "").matchAll(LABEL)) labels[name] = value;
      family.samples.push({ name: found[1], labels, value: Number(found[3]) });
    }
  }
  return families;
}

// Returns the sum of the samples of a counter or gauge that have these labels; null if there are none.
export function total(families, name, labels = {}) {
  const wanted = Object.entries(labels);
  const found = families
    ?.get(name)
    ?.samples.filter((sample) => wanted.every(([label, value]) => sample.labels[label] === value));
  return found?.length ? found.reduce((sum, sample) => sum + sample.value, 0) : null;
}

// Returns a histogram over all labels: {count, sum, buckets: [[upper bound, cumulative count]]}.
export function histogram(families, name) {
  const merged = { count: 0, sum: 0, buckets: new Map() };
  for (const sample of families?.get(name)?.samples ?? []) {
    if (sample.name.endsWith("_count")) merged.count += sample.value;
    else if (sample.name.endsWith("_sum")) merged.sum += sample.value;
    else if (sample.name.endsWith("_bucket")) {
      const bound = sample.labels.le === "+Inf" ? Infinity : Number(sample.labels.le);
      merged.buckets.set(bound, (merged.buckets.get(bound) ?? 0) + sample.value);
    }
  }
  return { ...merged, buckets: [...merged.buckets].sort(([a], [b]) => a - b) };
}

// Returns what a histogram counted since an earlier one; all of it if the node has started anew.
export function since(now, before) {
  if (!before || now.count < before.count) return now;
  const earlier = new Map(before.buckets);
  return {
    count: now.count - before.count,
    sum: now.sum - before.sum,
    buckets: now.buckets.map(([bound, count]) => [bound, count - (earlier.get(bound) ?? 0)]),
  };
}

// Returns an estimate of a quantile, as Prometheus does; null if nothing was counted.
export function quantile({ count, buckets }, share) {
  if (!count) return null;
  const rank = share * count;
  let [lower, below] = [0, 0];
  for (const [bound, upTo] of buckets) {
    if (upTo >= rank) {
      if (bound === Infinity) return lower;
      return upTo === below ? bound : lower + ((bound - lower) * (rank - below)) / (upTo - below);
    }
    [lower, below] = [bound, upTo];
  }
  return lower;
}
