# The shell's own machinery: expansions, here documents, traps, jobs, redirections.
set -u
echo "args: $# ${1-none} $0" | sed 's|/.*/||'
f() { local x=$1; echo "f $x"; return 3; }
f one; echo "status $?"
cat <<X
here $((1+2)) document
X
cat <<< "here string"
for i in {1..5}; do echo -n "$i "; done; echo
a=(one two three); echo "${#a[@]} ${a[1]}"
declare -A m=([k]=v); echo "${m[k]}"
x=/usr/share/doc; echo "${x##*/} ${x%/*} ${x/usr/USR}"
(exit 7); echo "subshell $?"
false | true; echo "pipe $? ${PIPESTATUS[*]}"
set -o pipefail; false | true; echo "pipefail $?"; set +o pipefail
trap 'echo trapped USR1' USR1; kill -USR1 $$; trap - USR1
sleep 0.1 & p=$!; wait $p; echo "waited $?"
sleep 10 & kill $!; wait $! 2>/dev/null; echo "killed $?"
trap 'echo bye' EXIT
(kill -9 $BASHPID); echo "kill -9 $?"
bash -c 'kill -SEGV $$' 2>/dev/null; echo "segv $?"
nosuchcommand 2>/dev/null; echo "not found $?"
/etc/passwd 2>/dev/null; echo "not executable $?"
mkfifo p; (echo through fifo > p &); read l < p; echo "$l"; rm p
diff <(echo a) <(echo b) > /dev/null; echo "process substitution $?"
exec 5>out; echo to five >&5; exec 5>&-; cat out
coproc cat; echo coprocess >&"${COPROC[1]}"; read -r l <&"${COPROC[0]}"; echo "$l"; exec {COPROC[1]}>&-
echo "$(echo nested "$(echo deeper)")"
printf '%s %d %x %5.2f\n' str 42 255 3.14159
test -d /tmp && test -r /etc/passwd && echo tests
[[ abc =~ a(.)c ]] && echo "regex ${BASH_REMATCH[1]}"
ulimit -n > /dev/null && echo ulimit
umask 027; touch m; stat -c %a m; rm -f m out
i=0; while [ $i -lt 200 ]; do i=$((i+1)); /bin/true; done; echo "200 processes"
seq 1 1000 | while read n; do [ $((n % 250)) = 0 ] && echo "$n"; done
timeout 0.2 sleep 10; echo "timeout $?"
time_out=$( { time sleep 0.05; } 2>&1 | grep -c real ); echo "time $time_out"
cd /; pwd; cd - > /dev/null
