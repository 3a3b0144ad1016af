# Standard streams that are pipes and files.
for fd in 0 1 2; do test -t $fd; echo "tty $fd $?"; done
wc -c; wc -c < /dev/stdin
echo to stderr >&2; echo via dev > /dev/stdout
stat -L -c %F /dev/stdin
exec 3< "$0"; head -1 <&3; exec 3<&-
yes | head -5000 | sha256sum
seq 1 20000 | tail -1
head -c 3000000 /dev/zero | wc -c
(sleep 0.1; echo late) | cat
echo -n no newline
