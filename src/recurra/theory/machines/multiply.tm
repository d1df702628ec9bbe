about: multiplies two numbers of strokes: behind 11x111= it writes 111111
start: first
halt: done refuse
tape: 11x111=

first 1 A R over      ; mark a stroke of the first number
first x x L mend      ; all of them are marked
first * * S refuse
over 1 1 R over       ; on to the second number
over x x R second
over * * S refuse
second 1 B R end      ; mark a stroke of the second number
second = = L fresh    ; all of them are copied
second * * S refuse
end _ 1 L home        ; write a stroke behind all others
end * * R end
home B B R second     ; back to the stroke that was marked last
home * * L home
fresh B 1 L fresh     ; unmark the second number
fresh x x L back
fresh * * S refuse
back A A R first      ; back to the stroke of the first number that was marked last
back * * L back
mend A 1 L mend       ; unmark the first number
mend _ _ R done
mend * * S refuse
