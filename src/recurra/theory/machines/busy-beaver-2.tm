about: the machine of 2 states that writes the most ones, 4, and halts after 6 steps (Rado 1962)
blank: 0
start: A
halt: H
A 0 1 R B
A 1 1 L B
B 0 1 L A
B 1 1 R H
