about: accepts a word of a and b that reads the same from both ends
start: first
halt: accept reject
tape: abba

first a _ R right-a      ; take the first letter off, remember it
first b _ R right-b
first _ _ S accept
right-a _ _ L last-a     ; to the word's end
right-a * * R right-a
right-b _ _ L last-b
right-b * * R right-b
last-a a _ L back        ; the last letter is the same
last-a b b S reject
last-a _ _ S accept      ; there was but one letter left
last-b b _ L back
last-b a a S reject
last-b _ _ S accept
back _ _ R first
back * * L back
