about: a machine of 3 states that writes the most ones, 6, and halts after 14 steps (Lin and Rado 1965)
blank: 0
start: A
halt: H
A 0 1 R B
A 1 1 R H
B 0 0 R C
B 1 1 R B
C 0 1 L C
C 1 1 L A
