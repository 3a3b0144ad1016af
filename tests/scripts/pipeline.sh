# find, sort, awk, sed, tar, gzip, sha256sum over generated data.
set -eu
mkdir data
awk -v mb="${MEGABYTES:-5}" 'BEGIN {
  srand(7); line = 0
  for (f = 0; f < mb; f++) {
    name = "data/part" f
    for (n = 0; n < 16384; n++) { line++; printf "%08d %s %d the quick brown fox jumps over\n", (line * 7919) % 10000019, "key" (line % 97), line > name }
    close(name)
  }
}'
find data -type f | sort | wc -l
find data -type f -size +100k | wc -l
cat data/* | wc
cat data/part* | sort | sha256sum
cat data/part* | awk '{ c[$2] += $3 } END { for (k in c) print k, c[k] }' | sort | head -5
sed -n 's/quick \(brown\)/slow \1/p' data/part0 | sha256sum
cat data/* | sort -k2,2 -k1n -S 8M | sha256sum
tar cf - --sort=name --mtime=@0 --owner=0 --group=0 data | gzip -n -1 > t.tgz
sha256sum < t.tgz
mkdir x; tar xzf t.tgz -C x
diff -r data x/data && echo identical
gzip -dc t.tgz | sha256sum
find x -type f -exec sha256sum {} + | sort -k2 | sha256sum
grep -c key42 data/* | sort | tail -2
tr a-z A-Z < data/part0 | head -c 1000 | tail -c 40
cut -d' ' -f2 data/part0 | sort | uniq -c | sort -rn | head -3
xargs -n1 -P4 sha256sum <<< "$(find data -type f | sort | head -8)" | sort | sha256sum
rm -rf data x t.tgz; ls
