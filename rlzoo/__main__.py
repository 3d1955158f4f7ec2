from rlzoo.cli import main

main()
