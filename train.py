from reprogram.cli import main

main()
