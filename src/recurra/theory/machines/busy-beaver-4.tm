about: the machine of 4 states that writes the most ones, 13, and halts after 107 steps (Brady 1983)
blank: 0
start: A
halt: H
A 0 1 R B
A 1 1 L B
B 0 1 L A
B 1 0 L C
C 0 1 R H
C 1 1 L D
D 0 1 R D
D 1 0 R A
