# What ps, free, uptime, mount and friends need from /proc; numbers that differ are cut off.
ps -o pid= -p $$ | tr -d ' ' | sed "s/^$$\$/own pid/"
ps -o comm= -p $$
# Until the child is the program it becomes, in the state that is asked for.
is() { [ "$(cat /proc/$s/comm)" = sleep ] && grep -q "^State:.$1" /proc/$s/status; }
sleep 50 & s=$!
until is S; do :; done
ps -o ppid=,stat=,comm= -p $s | sed "s/$$/parent/" | tr -s ' ' | sed "s/^ //"
ps -e -o comm= | grep -c '^sleep$' | awk '{print ($1 >= 1)}'
kill -STOP $s; until is T; do :; done; ps -o stat= -p $s | cut -c1; kill -CONT $s; kill $s; wait $s 2>/dev/null
free | awk 'NR == 1 {print $1, $2, $3} NR == 2 {print $1, ($2 > 1000), ($3 > 0)}'
cat /proc/uptime | awk '{print NF, ($1 > 0)}'
cat /proc/loadavg | awk '{print NF}'
grep -c ^processor /proc/cpuinfo | awk '{print ($1 >= 1)}'
nproc | awk '{print ($1 >= 1)}'
grep -E '^(MemTotal|MemFree|MemAvailable|Cached|SwapTotal)' /proc/meminfo | awk '{print $1, $3}'
awk '$2 == "/" {n++} END {print (n >= 1)}' /proc/mounts
mount | grep -c ' on /proc ' | awk '{print ($1 >= 1)}'
df / | awk 'NR == 2 {print ($2 > 0), $6}'
cat /proc/self/status | grep -E '^(Name|State|Threads|Uid|Gid):' | head -3 | tr '\t' ' ' | cut -d' ' -f1,2
awk '{print NF}' /proc/self/stat
tr '\0' ' ' < /proc/self/cmdline; echo
ls /proc/self/fd | grep -E '^[012]$' | tr '\n' ' '; echo
head -1 /proc/stat | awk '{print $1, (NF >= 8)}'
cat /proc/sys/kernel/ostype; test -r /proc/sys/kernel/random/uuid && echo uuid
cat /proc/version | cut -d' ' -f1,2; uname -s -m
readlink /proc/self/exe | sed 's|.*/||'; pgrep -x nosuchprogram; echo "pgrep $?"
uptime | grep -c 'load average'; w -h > /dev/null 2>&1; vmstat 2>/dev/null | head -1 | awk '{print $1}'
pstree -p $$ 2>/dev/null | head -1 | cut -d'(' -f1
