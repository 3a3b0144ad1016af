# vim without a terminal: swap files, undo, writing over a file, a shell command.
printf 'one\ntwo\nthree\n' > f
vim -u NONE -es -c '%s/o/0/g' -c 'normal Gyyp' -c wq f < /dev/null; echo "status $?"; cat f
vim -u NONE -es -c '%!sort -r' -c 'w! g' -c 'qa!' f < /dev/null; echo "status $?"; cat g; ls -A
vim -u NONE -es -c 'set undofile undodir=.' -c 'normal ddu' -c 'wq' f < /dev/null; cat f; ls -A | wc -l
