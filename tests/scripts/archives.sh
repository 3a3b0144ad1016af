# Compressors, single and threaded, and archives with attributes.
set -u
awk 'BEGIN { srand(3); for (i = 0; i < 100000; i++) printf "%d %d\n", i, rand() * 1000 }' > data
for c in gzip bzip2 'xz -2' 'xz -2 -T2' zstd 'zstd -T2'; do
  command -v "${c%% *}" > /dev/null || continue
  $c -c < data > z 2> /dev/null && ${c%% *} -dc < z | cmp - data && echo "$c same"
done
mkdir -p t/sub; echo a > t/a; ln -s a t/link; ln t/a t/hard; chmod 640 t/a; touch -d @1000000000 t/a t/sub; mkfifo t/fifo
tar cf t.tar t && tar tf t.tar | sort && mkdir x && tar xf t.tar -C x
stat -c '%n %a %h %Y %F' x/t/a; stat -c '%n %a %h %F' x/t/fifo; readlink x/t/link; stat -c '%Y' x/t/sub
zip -q -r t.zip t/a t/sub && unzip -tq t.zip && unzip -p t.zip t/a
tar cf - t | tar xf - -C x && diff -r --no-dereference t/sub x/t/sub && echo through a pipe
