about: accepts round brackets that are balanced
start: find
halt: accept reject
tape: (()())

find ) X L match      ; the first closing bracket
find _ _ L rest       ; there is none left
find * * R find
match ( X R find      ; the nearest opening one belongs to it
match _ _ S reject
match * * L match
rest X X L rest       ; all should be crossed out
rest _ _ S accept
rest * * S reject
