# Perl: processes, pipes, files, signals, sorting.
cat > t.pl <<'P'
use strict; use warnings; use POSIX qw(:sys_wait_h); use Socket; use Fcntl qw(:flock);
$| = 1;
my %h; $h{$_ % 13} += $_ for 1 .. 50000; print join(",", map { "$_=$h{$_}" } sort { $a <=> $b } keys %h), "\n";
my $pid = fork; if (!$pid) { exit 5 } waitpid $pid, 0; print "child ", $? >> 8, "\n";
open my $p, "-|", "seq 1 100" or die; my $s = 0; $s += $_ while <$p>; close $p; print "sum $s\n";
open $p, "|-", "sort -r | head -2" or die; print $p "$_\n" for 1 .. 9; close $p;
my $t = 0; local $SIG{ALRM} = sub { $t++ }; alarm 1; select undef, undef, undef, 3; print "alarm $t\n";
local $SIG{USR1} = sub { print "usr1\n" }; kill USR1 => $$; 
socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC; syswrite $a, "ping"; sysread $b, my $x, 10; print "$x\n";
open my $f, ">", "pl.txt"; flock $f, LOCK_EX; print $f "x" x 100, "\n" for 1 .. 100; close $f; print -s "pl.txt", "\n"; 
my $text = do { local (@ARGV, $/) = "pl.txt"; <> }; print length $text, " ", ($text =~ tr/x//), "\n"; unlink "pl.txt";
my @w = sort map { sprintf "%05d", ($_ * 7919) % 10007 } 1 .. 2000; print "$w[0] $w[-1]\n";
print `echo backticks`; system "exit 3"; print $? >> 8, "\n"; print "fib ", fib(18), "\n"; sub fib { my $n = shift; $n < 2 ? $n : fib($n - 1) + fib($n - 2) }
opendir my $d, "/proc/$$"; print +(grep { $_ eq "status" } readdir $d) ? "proc\n" : "no proc\n";
my @kids = map { my $k = fork; if (!$k) { exit $_ } $k } 1 .. 10; my $sum = 0; for (@kids) { waitpid $_, 0; $sum += $? >> 8 } print "kids $sum\n";
die "end\n";
P
perl t.pl 2>&1; echo "status $?"
